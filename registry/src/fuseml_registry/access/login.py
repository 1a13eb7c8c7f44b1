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
#: Wrong passwords of one address, whatever the user, before it waits; several people may share an address.
FREE_OF_ADDRESS = 50


class Login:
    """Checks passwords against the file with users.

    Args:
        accounts: The users.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        # Neither may one address try many names, nor many addresses keep a user out. A right password shall not make an
        # address forget how often it guessed those of others.
        self._of_user, self._of_address = Throttle(), Throttle(free=FREE_OF_ADDRESS)
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
        hashed = await asyncio.to_thread(self.accounts.hash_of, name)
        ticket = hmac.digest(self._secret, f"{name}\0{hashed}\0{password}".encode(), hashlib.sha256)
        if hashed and self._right.get(ticket, 0.0) > time.monotonic():
            return True
        key = f"{name[:100]} {address}"
        self._demand_patience(key, address)
        async with self._slots:
            # Guesses sent all at once, before the first had failed, wait here; they count too.
            self._demand_patience(key, address)
            right = len(password.encode()) <= MAX_PASSWORD and await asyncio.to_thread(
                check_password, password, hashed or self._nobody)
            if not right or not hashed:
                self._of_user.failed(key)
                self._of_address.failed(address)
                return False
        self._of_user.succeeded(key)
        self._remember(ticket)
        return True

    def _demand_patience(self, key: str, address: str) -> None:
        if wait := max(self._of_user.wait(key), self._of_address.wait(address)):
            raise too_many(wait)

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
