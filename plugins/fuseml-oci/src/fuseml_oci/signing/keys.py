"""Keys for signatures: ECDSA on the curve P-256 with SHA-256, which is what cosign makes and everything verifies."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseml_oci.signing import encryption
from fuseml_sdk.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

#: Largest key file that is read, in bytes.
MAX_FILE = 64 << 10
_PUBLIC, _PLAIN = "PUBLIC KEY", frozenset({"PRIVATE KEY", "EC PRIVATE KEY"})


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
        return encryption.write_pem(_PUBLIC, self.spki)

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
        return _public(self.spki, self.fingerprint)


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


def load_public(path: Path) -> PublicKey:
    """Read a public key: PEM, as `cosign generate-key-pair` and `openssl ec -pubout` write it.

    Raises:
        NotFound: There is no such file.
        InvalidInput: It is no public key on P-256.
    """
    return read_public(_read(path), str(path))


def read_public(data: bytes, where: str) -> PublicKey:
    """Read a public key from the bytes of a PEM file; raises InvalidInput, naming `where`."""
    label, content = encryption.read_pem(data, where)
    if label in encryption.LABELS or label in _PLAIN:
        raise InvalidInput(f"{where} is a private key where a public one is needed",
                           hint="Give the file that ends with .pub.")
    if label != _PUBLIC:
        raise InvalidInput(f"{where} is not a public key: its PEM block is named {label!r}")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _public(content, where)
    return PublicKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def is_encrypted(path: Path) -> bool:
    """Whether a private key needs a password; raises NotFound and InvalidInput as :func:`load_private` does."""
    label, _ = encryption.read_pem(_read(path), str(path))
    return label in encryption.LABELS or label == "ENCRYPTED PRIVATE KEY"


def load_private(path: Path, password: bytes | None = None, *, unencrypted: bool = False) -> PrivateKey:
    """Read a private key.

    Args:
        path: A key as cosign keeps it, or PEM of PKCS#8 or SEC 1.
        password: To decrypt it.
        unencrypted: Accept a key that no password protects.

    Raises:
        NotFound: There is no such file.
        InvalidInput: It is no private key on P-256, needs a password and none was given, or is not protected.
        Permanent: The password is wrong.
    """
    where = str(path)
    label, content = encryption.read_pem(data := _read(path), where)
    if label in encryption.LABELS:
        if password is None:
            raise InvalidInput(f"the key {where} is encrypted, and no password was given")
        return _private(encryption.write_pem("PRIVATE KEY", encryption.decrypt(content, password, where)), None, where)
    if label == _PUBLIC:
        raise InvalidInput(f"{where} is a public key where a private one is needed",
                           hint="Give the file that ends with .key.")
    if label in _PLAIN:
        if not unencrypted:
            raise InvalidInput(f"the key {where} is not encrypted",
                               hint=f"Make an encrypted copy and use that: fuseml key import {where} NAME")
        password = None
    return _private(data, password, where)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no key file {path}", hint="Make a key: fuseml key generate NAME") from None
    except OSError as error:
        raise InvalidInput(f"the key file {path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise InvalidInput(f"{path} is larger than {MAX_FILE} bytes, so it is no key file")
    return data


def _public(spki: bytes, where: str) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{where} is not a public key: its content is damaged") from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise _other_kind(key, where)
    _check_curve(key, where)
    return key


def _private(pem: bytes, password: bytes | None, where: str) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password)
    except TypeError:
        raise InvalidInput(f"the key {where} is encrypted, and no password was given") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{where} is not a private key, or the password is wrong") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise _other_kind(key, where)
    _check_curve(key, where)
    return PrivateKey(key)


def _check_curve(key: EllipticCurvePublicKey | EllipticCurvePrivateKey, where: str) -> None:
    if key.curve.name != "secp256r1":
        raise InvalidInput(f"{where} is a key on the curve {key.curve.name}",
                           hint="Use ECDSA on P-256, which cosign makes by default: fuseml key generate NAME")


def _other_kind(key: Any, where: str) -> InvalidInput:
    kind = type(key).__name__.strip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
    return InvalidInput(f"{where} is a key of the kind {kind}",
                        hint="Use ECDSA on P-256, which cosign makes by default: fuseml key generate NAME")
