"""Answering 401: Basic credentials or bearer tokens, scoped, cached, and never sent to strangers.

Token protocols: distribution documentation, "Token Authentication Specification" (GET with a password) and "OAuth 2"
(POST with an identity token).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from fuseml_oci.credentials import Credentials
from fuseml_oci.descriptor import read_object
from fuseml_oci.origin import Origin, check_redirect, origin_of
from fuseml_sdk.errors import InvalidInput, Permanent

#: What token servers are told about who asks.
CLIENT = "fuseml-oci"
#: Seconds a token is used when the server does not say, and how long before its end it is renewed.
DEFAULT_LIFETIME, MARGIN = 60.0, 10.0
#: Token servers of registries whose host name differs and that everybody uses.
KNOWN_REALMS = {"registry-1.docker.io": ("auth.docker.io",), "docker.io": ("auth.docker.io",),
                "registry.gitlab.com": ("gitlab.com",)}
_SCHEME = re.compile(r"(?:^|,)\s*(?=(?:bearer|basic)(?:\s|$))", re.IGNORECASE)
_MAX_CHALLENGE = 8 << 10
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')

#: Sends one GET, or a POST if there is a form, with these headers and returns (status, body).
Fetch = Callable[[str, Mapping[str, str], Mapping[str, str] | None], tuple[int, bytes]]
#: Returns the credentials for a repository; empty means the registry as such.
Find = Callable[[str], Credentials | None]


class Authorizer:
    """Authorization headers for one registry and one set of credentials.

    Args:
        origin: The registry's origin; headers are meant for it alone.
        find: Which credentials to use; None asks for anonymous tokens. Asked when a registry first wants some.
        fetch: How to reach the token server.
        trusted_realms: Further hosts that may see the credentials.
    """

    def __init__(self, origin: Origin, find: Find, fetch: Fetch,
                 trusted_realms: tuple[str, ...] = ()) -> None:
        self._origin = origin
        self._find = find
        self.asked = False
        self._found: dict[str, Credentials | None] = {}
        self._fetch = fetch
        self._trusted = frozenset({*trusted_realms, *KNOWN_REALMS.get(origin.host, ())})
        self._headers: dict[tuple[str, str], tuple[str, float]] = {}
        self._lock = threading.Lock()

    def header(self, repository: str, action: str) -> str:
        """Return what is known for a repository and an action; empty if nothing is, or it has expired."""
        with self._lock:
            value, expires = self._headers.get((repository, action), ("", 0.0))
        return value if time.monotonic() < expires else ""

    def answer(self, challenge: str, repository: str, action: str, scope: str = "") -> bool:
        """Obtain authorization as a WWW-Authenticate header asks.

        Args:
            challenge: The header.
            repository: What it is for.
            action: What it is kept for, as in `header`.
            scope: What a token shall be good for beside what the header says.

        Returns:
            False if there is nothing that could be sent.

        Raises:
            Permanent: The token server is not to be trusted with credentials, or answers nonsense.
        """
        self.asked, lifetime, value = True, DEFAULT_LIFETIME, ""
        scheme, parameters = _choose(challenge)
        credentials = self._credentials(repository) if scheme else None
        if scheme == "bearer":
            token, lifetime = self._token(parameters, credentials, scope)
            value = f"Bearer {token}" if token else ""
        elif scheme == "basic" and credentials and credentials.username:
            value, lifetime = credentials.basic, 3600.0
        with self._lock:
            self._headers.pop((repository, action), None)
            if value:
                self._headers[repository, action] = (value, time.monotonic() + lifetime)
        return bool(value)

    def _credentials(self, repository: str) -> Credentials | None:
        with self._lock:
            if repository in self._found:
                return self._found[repository]
        found = self._find(repository)
        with self._lock:
            return self._found.setdefault(repository, found)

    def _token(self, challenge: Mapping[str, str], credentials: Credentials | None,
               more: str) -> tuple[str, float]:
        realm = challenge.get("realm", "")
        headers, form = {"Accept": "application/json"}, None
        scopes = list(dict.fromkeys([*challenge.get("scope", "").split(), *more.split()]))
        service = {"service": challenge["service"]} if challenge.get("service") else {}
        if credentials:
            self._check_realm(realm)
        self._check_transport(realm)
        if credentials and credentials.identity_token:
            form = {"grant_type": "refresh_token", "client_id": CLIENT, **service, "scope": " ".join(scopes),
                    "refresh_token": credentials.identity_token}
            url = realm
        else:
            if credentials:
                headers["Authorization"] = credentials.basic
            query = urlencode([*service.items(), *(("scope", scope) for scope in scopes)])
            url = f"{realm}{'&' if '?' in realm else '?'}{query}" if query else realm
        status, body = self._fetch(url, headers, form)
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
        check_redirect(self._origin, target)
        if target.scheme != "https" and not (self._origin.scheme == "http" and target.host == self._origin.host):
            raise Permanent(f"registry {self._origin} names the token server {target}, which is not encrypted")

    def _check_realm(self, realm: str) -> None:
        host, own = origin_of(realm).host, self._origin.host
        related = host == own or host.endswith(f".{own}") or (own.endswith(f".{host}") and host.count(".") >= 1)
        if not related and host not in self._trusted:
            raise Permanent(f"registry {self._origin} wants the password to be sent to {origin_of(realm)}",
                            hint=f"name {host} as a trusted realm if it belongs to the registry")


def _choose(challenge: str) -> tuple[str, dict[str, str]]:
    """Return scheme and parameters of the strongest challenge of a header that may hold several (RFC 9110, 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    for part in _SCHEME.split(challenge[:_MAX_CHALLENGE])[1:]:
        scheme, _, rest = part.partition(" ")
        found.setdefault(scheme.lower(), {k.lower(): v for k, v in _PARAMETER.findall(rest)})
    scheme = next((scheme for scheme in ("bearer", "basic") if scheme in found), "")
    return scheme, found.get(scheme, {})
