"""Passwords: hashed with scrypt (RFC 7914) as `$scrypt$ln=14,r=8,p=1$<salt>$<hash>`, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

#: Logarithm of the cost; 2^14 with r=8 takes 16 MiB and about 40 ms.
LOG_COST = 14
_HASH = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]{22,86})\$([A-Za-z0-9+/]{43})")
_HIGHEST_LOG_COST = 17
#: Longest password in bytes.
MAX_PASSWORD = 1024


def hash_password(password: str) -> str:
    """Return the hash of a password with a salt of its own."""
    salt = secrets.token_bytes(16)
    return f"$scrypt$ln={LOG_COST},r=8,p=1${_text(salt)}${_text(_scrypt(password, salt, LOG_COST, 8, 1))}"


def check_password(password: str, hashed: str) -> bool:
    """Whether a password belongs to a hash. Takes as long for a wrong one; False for a hash that is malformed."""
    match = _HASH.fullmatch(hashed)
    if not match or int(match[1]) > _HIGHEST_LOG_COST or len(password.encode()) > MAX_PASSWORD:
        return False
    found = _scrypt(password, _bytes(match[4]), int(match[1]), int(match[2]), int(match[3]))
    return hmac.compare_digest(found, _bytes(match[5]))


def is_hash(text: str) -> bool:
    """Whether a text is a password's hash as written here."""
    return _HASH.fullmatch(text) is not None


def _scrypt(password: str, salt: bytes, log_cost: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=1 << log_cost, r=r, p=p, maxmem=256 << 20, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
