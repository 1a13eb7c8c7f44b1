"""Checking names and passwords: with a limit on guesses, and quickly for those that were right a moment ago."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time

from fuseml_registry.access.accounts import Accounts
from fuseml_registry.access.passwords import MAX_PASSWORD, check_password, hash_password
from fuseml_registry.access.throttle import Throttle
from fuseml_registry.errors import RegistryError

#: Seconds for which a right password need not be hashed again, and passwords remembered.
REMEMBER, MOST = 300.0, 1000
#: Passwords hashed at the same time; each takes 16 MiB.
HASHING = 2


class Login:
    """Checks passwords against the file with users.

    Args:
        accounts: The users.
        throttle: Counts wrong guesses.
    """

    def __init__(self, accounts: Accounts, throttle: Throttle | None = None) -> None:
        self.accounts = accounts
        self._throttle = throttle or Throttle()
        self._slots = asyncio.Semaphore(HASHING)
        self._nobody = hash_password(secrets.token_hex(16))
        self._secret = secrets.token_bytes(32)
        self._right: dict[bytes, float] = {}

    async def check(self, name: str, password: str, address: str) -> bool:
        """Whether a password is a user's.

        Args:
            name: User; one that does not exist takes as long as a wrong password.
            password: What was given.
            address: Where from; counts guesses.

        Raises:
            RegistryError: TOOMANYREQUESTS after too many wrong ones.
        """
        # Neither may one address try many names, nor many addresses keep a user out.
        keys = (f"address {address}", f"user {name[:100]} {address}")
        hashed = await asyncio.to_thread(self.accounts.hash_of, name)
        ticket = hmac.digest(self._secret, f"{name}\0{hashed}\0{password}".encode(), hashlib.sha256)
        if hashed and self._right.get(ticket, 0.0) > time.monotonic():
            return True
        if wait := self._throttle.wait(*keys):
            raise too_many(wait)
        if len(password.encode()) > MAX_PASSWORD:
            self._throttle.failed(*keys)
            return False
        async with self._slots:
            # Guesses sent all at once, before the first had failed, wait here; they count too.
            if wait := self._throttle.wait(*keys):
                raise too_many(wait)
            right = await asyncio.to_thread(check_password, password, hashed or self._nobody)
            if not right or not hashed:
                self._throttle.failed(*keys)
                return False
        self._throttle.succeeded(*keys)
        self._remember(ticket)
        return True

    def _remember(self, ticket: bytes) -> None:
        now = time.monotonic()
        if len(self._right) >= MOST:
            self._right = {key: until for key, until in self._right.items() if until > now}
        if len(self._right) < MOST:
            self._right[ticket] = now + REMEMBER


def too_many(wait: float) -> RegistryError:
    """Too many wrong passwords (code-14)."""
    seconds = max(1, math.ceil(wait))
    return RegistryError(429, "TOOMANYREQUESTS", f"too many wrong passwords; try again in {seconds} s",
                         headers={"Retry-After": str(seconds)})


def read_basic(header: str) -> tuple[str, str] | None:
    """Return (name, password) of an Authorization header (RFC 7617); None if it is not Basic or malformed."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic" or len(value) > 8192:
        return None
    try:
        text = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None
