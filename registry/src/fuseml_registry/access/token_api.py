"""The token endpoint: GET as in docker's token specification, POST as in its OAuth2 form.

https://distribution.github.io/distribution/spec/auth/token/ and …/auth/oauth/
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fuseml_oci.reference import check_repository
from fuseml_registry.access.identity import SCOPE_KEY, Identity, listed
from fuseml_registry.access.login import Login, read_basic
from fuseml_registry.access.permissions import ACTIONS, Permissions
from fuseml_registry.access.tokens import InvalidToken, Tokens, fingerprint
from fuseml_registry.configuration import Auth
from fuseml_registry.errors import RegistryError
from fuseml_registry.streams import small_body
from fuseml_sdk.errors import InvalidInput

#: Scopes in one request, and bytes of a form.
MAX_SCOPES, MAX_FORM = 100, 64 << 10
_SCOPE = re.compile(r"(repository|registry)(?:\([a-z0-9]+\))?:(.+):([a-z*,]*)")


@dataclass(frozen=True, slots=True)
class TokenApi:
    """Gives tokens for what a user may do of what was asked for.

    Attributes:
        permissions: The rules.
        login: Checks passwords.
        tokens: Signs tokens.
        auth: Lifetimes and the name of the service.
    """

    permissions: Permissions
    login: Login
    tokens: Tokens
    auth: Auth

    async def answer(self, request: Request, path: Mapping[str, str]) -> Response:  # noqa: ARG002
        """Answer GET and POST."""
        return await (self._oauth(request) if request.method == "POST" else self._docker(request))

    async def _docker(self, request: Request) -> Response:
        """GET with Basic, or without credentials for an anonymous token."""
        query = request.query_params
        self._check_service(query.get("service"))
        header, user = request.headers.get("Authorization", ""), ""
        if header and (given := read_basic(header)) != ("", ""):
            if given is None:
                raise self._wrong()
            user = await self._checked(request, *given)
        request.scope[SCOPE_KEY] = Identity(user, "basic" if user else "anonymous")
        answer = self._token(user, query.getlist("scope"))
        answer["token"] = answer["access_token"]
        if user and query.get("offline_token") == "true":
            answer["refresh_token"] = self._refresh(user)
        return _uncached(answer)

    async def _oauth(self, request: Request) -> Response:
        """POST with a password or a refresh token."""
        body = await small_body(request, MAX_FORM)
        form = {k: v[-1] for k, v in parse_qs(body.decode("latin-1"), max_num_fields=50).items()}
        self._check_service(form.get("service"))
        kind = form.get("grant_type")
        if kind == "password":
            user = await self._checked(request, form.get("username", ""), form.get("password", ""))
        elif kind == "refresh_token":
            user = self._refreshed(form.get("refresh_token", ""))
        else:
            raise RegistryError(400, "UNSUPPORTED", "grant_type must be password or refresh_token")
        request.scope[SCOPE_KEY] = Identity(user, "basic" if kind == "password" else "token")
        answer = self._token(user, [form.get("scope", "")])
        if kind == "refresh_token":
            answer["refresh_token"] = form["refresh_token"]
        elif form.get("access_type") == "offline":
            answer["refresh_token"] = self._refresh(user)
        return _uncached(answer)

    async def _checked(self, request: Request, user: str, password: str) -> str:
        """Return the user if the password is right."""
        request.scope[SCOPE_KEY] = Identity(user, "failed")
        if not await self.login.check(user, password, request.client.host if request.client else ""):
            raise self._wrong()
        return user

    def _token(self, user: str, scopes: list[str]) -> dict[str, Any]:
        """Grant what is both asked for and allowed; nothing of it is fine: the registry then refuses."""
        asked = [part for text in scopes for part in text.split()]
        if len(asked) > MAX_SCOPES:
            raise RegistryError(400, "UNSUPPORTED", f"more than {MAX_SCOPES} scopes")
        grants: dict[str, frozenset[str]] = {}
        catalog = False
        for text in asked:
            match = _SCOPE.fullmatch(text)
            if not match:
                raise RegistryError(400, "UNSUPPORTED", f"{text[:200]!r} is not a scope such as "
                                    "repository:name:pull,push or registry:catalog:*")
            kind, name, actions = match.groups()
            if kind == "repository":
                wanted = ACTIONS if actions == "*" else frozenset(actions.split(","))
                grants[name] = grants.get(name, frozenset()) | (wanted & self._actions(user, name))
            elif name == "catalog" and actions == "*":
                catalog = self.permissions.may_see_something(user)
        lifetime = self.auth.token_lifetime
        issued = datetime.fromtimestamp(int(time.time()), UTC).isoformat().replace("+00:00", "Z")
        granted = [f"repository:{name}:{listed(actions)}" for name, actions in grants.items() if actions]
        return {"access_token": self.tokens.issue(user, grants, lifetime, catalog=catalog),
                "expires_in": int(lifetime), "issued_at": issued,
                "scope": " ".join([*granted, *(["registry:catalog:*"] if catalog else [])])}

    def _actions(self, user: str, name: str) -> frozenset[str]:
        try:
            return self.permissions.actions(user, check_repository(name))
        except InvalidInput:
            return frozenset()

    def _refresh(self, user: str) -> str:
        return self.tokens.issue_refresh(user, fingerprint(self.login.accounts.hash_of(user)),
                                         self.auth.refresh_lifetime)

    def _refreshed(self, text: str) -> str:
        """Return the user of a refresh token whose password is still the same."""
        try:
            token = self.tokens.verify(text, "refresh")
        except InvalidToken as error:
            raise self._wrong(f"the refresh token is not good: {error}") from None
        hashed = self.login.accounts.hash_of(token.subject)
        if not hashed or fingerprint(hashed) != token.fingerprint:
            raise self._wrong("the refresh token is not good: user or password changed")
        return token.subject

    def _check_service(self, service: str | None) -> None:
        if service is not None and service != self.auth.service:
            raise RegistryError(400, "UNSUPPORTED", f"this endpoint gives tokens for {self.auth.service!r} only")

    def _wrong(self, message: str = "name or password is wrong") -> RegistryError:
        return RegistryError(401, "UNAUTHORIZED", message, headers={
            "WWW-Authenticate": f'Basic realm="{self.auth.service}", charset="UTF-8"'})


def _uncached(answer: dict[str, Any]) -> Response:
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})
