"""Keys and the files they are in: PEM, as cosign and openssl write it."""

from __future__ import annotations

from pathlib import Path

from fuseml_oci.signing import encryption
from fuseml_oci.signing.curve import private_of, public_of
from fuseml_oci.signing.pairs import PrivateKey, PublicKey, generate
from fuseml_sdk.errors import InvalidInput, NotFound

__all__ = ["MAX_FILE", "PrivateKey", "PublicKey", "generate", "is_encrypted", "load_private", "load_public",
           "read_public"]

#: Largest key file that is read, in bytes.
MAX_FILE = 64 << 10
_PUBLIC, _PLAIN = "PUBLIC KEY", frozenset({"PRIVATE KEY", "EC PRIVATE KEY"})


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

    key = public_of(content, where)
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
        pem = encryption.write_pem("PRIVATE KEY", encryption.decrypt(content, password, where))
        return PrivateKey(private_of(pem, None, where))
    if label == _PUBLIC:
        raise InvalidInput(f"{where} is a public key where a private one is needed",
                           hint="Give the file that ends with .key.")
    if label in _PLAIN:
        if not unencrypted:
            raise InvalidInput(f"the key {where} is not encrypted",
                               hint=f"Make an encrypted copy and use that: fuseml key import {where} NAME")
        password = None
    return PrivateKey(private_of(data, password, where))


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
