"""Keys for signatures: ECDSA on the curve P-256 with SHA-256, which is what cosign makes and everything verifies."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fuseml_oci.signing import encryption
from fuseml_oci.signing.curve import public_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies signatures.

    Attributes:
        spki: SubjectPublicKeyInfo in DER; two keys are equal if these bytes are.
    """

    spki: bytes

    @cached_property
    def fingerprint(self) -> str:
        """`sha256:` and the 64 hexadecimal digits of the hash over `spki`."""
        return f"sha256:{hashlib.sha256(self.spki).hexdigest()}"

    @property
    def hint(self) -> str:
        """How a signature bundle names its key; anybody can write any hint, so nothing may depend on it."""
        return base64.b64encode(hashlib.sha256(self.spki).digest()).decode()

    @property
    def pem(self) -> bytes:
        """The key as a file."""
        return encryption.write_pem("PUBLIC KEY", self.spki)

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature (ASN.1 DER) of these bytes was made with the private half of this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            self._loaded.verify(signature, data, ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    @cached_property
    def _loaded(self) -> EllipticCurvePublicKey:
        return public_of(self.spki, self.fingerprint)


class PrivateKey:
    """A key that makes signatures; never shows itself.

    Args:
        key: On P-256.
    """

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key

    @cached_property
    def public(self) -> PublicKey:
        """The half that verifies."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return PublicKey(self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def fingerprint(self) -> str:
        """That of the public half."""
        return self.public.fingerprint

    def sign(self, data: bytes) -> bytes:
        """Return a signature of some bytes: ECDSA with SHA-256 in ASN.1 DER."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        return self._key.sign(data, ECDSA(SHA256()))

    def encrypted(self, password: bytes) -> bytes:
        """Return the key as cosign keeps it, a PEM file encrypted with a password."""
        return encryption.encrypt(self._pkcs8(), password)

    def unencrypted(self) -> bytes:
        """Return the key as a plain PKCS#8 PEM file, for servers, which have nobody to ask for a password."""
        return encryption.write_pem("PRIVATE KEY", self._pkcs8())

    def _pkcs8(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def __repr__(self) -> str:
        return f"PrivateKey({self.fingerprint})"


def generate() -> PrivateKey:
    """Make a new key."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    return PrivateKey(generate_private_key(SECP256R1()))
