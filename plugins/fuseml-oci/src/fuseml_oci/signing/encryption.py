"""Private keys encrypted as cosign does it: scrypt, then XSalsa20-Poly1305, in a PEM block around a JSON document.

Format: cosign `pkg/cosign/keys.go` and go-securesystemslib `encrypted`. PyNaCl is imported when a key is encrypted or
decrypted only; `cryptography` has no XSalsa20.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from typing import Any

from fuseml_oci.signing.strict_json import read_strictly
from fuseml_sdk.errors import InvalidInput, Permanent

#: Name of the PEM block that is written, and those that are read.
LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
LABELS = frozenset({LABEL, "ENCRYPTED COSIGN PRIVATE KEY"})
#: The cost of scrypt that is written; others that cosign has used are read. Anything else is refused: a hostile file
#: could ask for all memory.
COST, COSTS = 65536, frozenset({32768, 65536, 131072})
_BLOCK, _PARALLEL, _KEY, _SALT, _NONCE = 8, 1, 32, 32, 24
_PEM = re.compile(r"\s*-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n([^-]*)-----END \1-----\s*")


def encrypt(secret: bytes, password: bytes) -> bytes:
    """Encrypt a private key.

    Args:
        secret: PKCS#8 DER.
        password: May be empty, which protects nothing and is what cosign allows.

    Returns:
        A PEM file.
    """
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    sealed = SecretBox(_derive(password, salt, COST)).encrypt(secret, nonce).ciphertext
    document = {"kdf": {"name": "scrypt", "params": {"N": COST, "r": _BLOCK, "p": _PARALLEL}, "salt": _text(salt)},
                "cipher": {"name": "nacl/secretbox", "nonce": _text(nonce)}, "ciphertext": _text(sealed)}
    return write_pem(LABEL, json.dumps(document, separators=(",", ":")).encode())


def decrypt(content: bytes, password: bytes, where: str) -> bytes:
    """Decrypt the content of the PEM block.

    Args:
        content: The JSON document.
        password: What it was encrypted with.
        where: The file, for errors.

    Returns:
        PKCS#8 DER.

    Raises:
        InvalidInput: The document is damaged or asks for another algorithm.
        Permanent: The password is wrong.
    """
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    document = read_strictly(content, where)
    kdf, cipher = _object(document, "kdf", where), _object(document, "cipher", where)
    if kdf.get("name") != "scrypt" or cipher.get("name") != "nacl/secretbox":
        raise InvalidInput(f"{where} is encrypted by an unknown method: {kdf.get('name')}, {cipher.get('name')}")
    params = _object(kdf, "params", where)
    if params.get("N") not in COSTS or params.get("r") != _BLOCK or params.get("p") != _PARALLEL:
        raise InvalidInput(f"{where} asks for scrypt with parameters that cosign has never used: {params}")
    nonce, sealed = _bytes(cipher, "nonce", where), _bytes(document, "ciphertext", where)
    if len(nonce) != _NONCE:
        raise InvalidInput(f"{where} has a nonce of {len(nonce)} bytes instead of {_NONCE}")
    key = _derive(password, _bytes(kdf, "salt", where), params["N"])
    try:
        return SecretBox(key).decrypt(sealed, nonce)
    except CryptoError:
        raise Permanent(f"the password does not open the key {where}",
                        hint="Give the right one at the prompt, in FUSEML_KEY_PASSWORD or by "
                             "--password-stdin.") from None


def write_pem(label: str, content: bytes) -> bytes:
    """Make a PEM block with lines of 64 characters, as Go's `encoding/pem` does."""
    body = base64.b64encode(content).decode()
    lines = [body[start:start + 64] for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def read_pem(data: bytes, where: str) -> tuple[str, bytes]:
    """Read a file with exactly one PEM block.

    Returns:
        (label, content).

    Raises:
        InvalidInput: It is something else.
    """
    match = _PEM.fullmatch(data.decode("ascii", "replace"))
    if match is None:
        raise InvalidInput(f"{where} is not a PEM file with one block",
                           hint="A key file begins with a line such as -----BEGIN PUBLIC KEY-----.")
    try:
        return match[1], base64.b64decode("".join(match[2].split()), validate=True)
    except binascii.Error:
        raise InvalidInput(f"{where} is damaged: what it encloses is not base64") from None


def _derive(password: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost, r=_BLOCK, p=_PARALLEL, maxmem=256 << 20, dklen=_KEY)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _object(document: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is damaged: {key} is not an object")
    return value


def _bytes(document: dict[str, Any], key: str, where: str) -> bytes:
    value = document.get(key)
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{where} is damaged: {key} is not base64") from None
