"""Answering 401: Basic credentials or bearer tokens, scoped, cached, and never sent to strangers.

Token protocol: distribution documentation, "Token Authentication Specification" (GET flow).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from fuseml_oci.credentials import Credentials
from fuseml_oci.descriptor import read_object
from fuseml_oci.origin import Origin, origin_of
from fuseml_sdk.errors import InvalidInput, Permanent

#: Seconds a token is used when the server does not say, and how long before its end it is renewed.
DEFAULT_LIFETIME, MARGIN = 60.0, 10.0
#: Token servers of registries whose host name differs and that everybody uses.
KNOWN_REALMS = {"registry-1.docker.io": ("auth.docker.io",), "docker.io": ("auth.docker.io",),
                "registry.gitlab.com": ("gitlab.com",)}
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')

#: Sends one GET with these headers and returns (status, body).
Fetch = Callable[[str, Mapping[str, str]], tuple[int, bytes]]


class Authorizer:
    """Authorization headers for one registry and one set of credentials.

    Args:
        origin: The registry's origin; headers are meant for it alone.
        credentials: None asks for anonymous tokens.
        fetch: How to reach the token server.
        trusted_realms: Further hosts that may see the credentials.
    """

    def __init__(self, origin: Origin, credentials: Credentials | None, fetch: Fetch,
                 trusted_realms: tuple[str, ...] = ()) -> None:
        self._origin = origin
        self._credentials = credentials
        self._fetch = fetch
        self._trusted = frozenset({*trusted_realms, *KNOWN_REALMS.get(origin.host, ())})
        self._headers: dict[tuple[str, str], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def header(self, repository: str, action: str) -> str:
        """Return what is known for a repository and `pull` or `push`; empty if nothing is, or it has expired."""
        with self._lock:
            value, expires = self._headers.get((repository, action), ("", 0.0))
        return value if time.monotonic() < expires else ""

    def answer(self, challenge: str, repository: str, action: str) -> bool:
        """Obtain authorization as a WWW-Authenticate header asks.

        Returns:
            False if there is nothing that could be sent.

        Raises:
            Permanent: The token server is not to be trusted with credentials, or answers nonsense.
        """
        scheme = challenge.strip().partition(" ")[0].lower()
        lifetime = DEFAULT_LIFETIME
        if scheme == "bearer":
            token, lifetime = self._token(dict(_PARAMETER.findall(challenge)))
            value = f"Bearer {token}" if token else ""
        elif scheme == "basic" and self._credentials:
            value, lifetime = self._credentials.basic, 3600.0
        else:
            value = ""
        with self._lock:
            self._headers.pop((repository, action), None)
            if value:
                self._headers[repository, action] = (value, time.monotonic() + lifetime)
        return bool(value)

    def _token(self, challenge: Mapping[str, str]) -> tuple[str, float]:
        realm = challenge.get("realm", "")
        headers = {"Accept": "application/json"}
        if self._credentials:
            self._check_realm(realm)
            headers["Authorization"] = self._credentials.basic
        query = urlencode({k: challenge[k] for k in ("service", "scope") if challenge.get(k)})
        url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
        self._check_transport(realm)
        status, body = self._fetch(url, headers)
        if status != 200:
            return "", 0.0
        try:
            answer = read_object(body, f"the answer of token server {origin_of(realm)}")
        except InvalidInput as error:
            raise Permanent(error.message) from None
        token = answer.get("token") or answer.get("access_token") or ""
        lifetime = answer.get("expires_in")
        seconds = float(lifetime) if isinstance(lifetime, int | float) else DEFAULT_LIFETIME
        if not isinstance(token, str) or not token.isprintable():
            raise Permanent(f"token server {origin_of(realm)} answered no usable token")
        return token, max(1.0, seconds - MARGIN)

    def _check_transport(self, realm: str) -> None:
        target = origin_of(realm)
        if target.scheme != "https" and not (self._origin.scheme == "http" and target.host == self._origin.host):
            raise Permanent(f"registry {self._origin} names the token server {target}, which is not encrypted")

    def _check_realm(self, realm: str) -> None:
        host, own = origin_of(realm).host, self._origin.host
        related = host == own or host.endswith(f".{own}") or (own.endswith(f".{host}") and host.count(".") >= 1)
        if not related and host not in self._trusted:
            raise Permanent(f"registry {self._origin} wants the password to be sent to {origin_of(realm)}",
                            hint=f"name {host} as a trusted realm if it belongs to the registry")
