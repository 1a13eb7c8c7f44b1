"""The gate before every request: who is it, and may they? Challenges as RFC 7235, RFC 6750 and docker have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import Request

from fuseml_registry.access.identity import SCOPE_KEY, Identity, Need
from fuseml_registry.access.login import Login, read_basic
from fuseml_registry.access.permissions import Permissions
from fuseml_registry.access.tokens import InvalidToken, Tokens
from fuseml_registry.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides about requests.

    Attributes:
        permissions: The rules.
        login: Checks passwords.
        tokens: Verifies tokens; None offers Basic only.
        service: Name of the registry in challenges.
        external_url: Base URL that clients use; empty takes the Host header's.
    """

    permissions: Permissions
    login: Login
    tokens: Tokens | None
    service: str
    external_url: str = ""

    async def admit(self, request: Request, need: Need) -> Identity:
        """Return who sends a request that may be answered.

        Raises:
            RegistryError: UNAUTHORIZED with a challenge, DENIED, or TOOMANYREQUESTS.
        """
        identity = await self._identity(request, need)
        request.scope[SCOPE_KEY] = identity
        if need.login:
            if identity.method == "anonymous":
                raise self._unauthorized(request, need, "credentials are needed")
            return identity
        if not self._allowed(identity, need):
            raise self._refusal(request, need, identity)
        return identity

    def may(self, identity: Identity, action: str, name: str) -> bool:
        """Whether somebody may do something in a repository."""
        if identity.grants is not None:
            return action in identity.grants.get(name, ())
        return action in self.permissions.actions(identity.user, name)

    def visible(self, identity: Identity, names: Iterable[str]) -> list[str]:
        """Return those repositories that somebody may pull from, by the rules, whatever a token lists."""
        return [name for name in names if "pull" in self.permissions.actions(identity.user, name)]

    async def _identity(self, request: Request, need: Need) -> Identity:
        header = request.headers.get("Authorization", "")
        scheme, _, value = header.partition(" ")
        if not header:
            return Identity(method="anonymous")
        if scheme.lower() == "bearer" and self.tokens is not None:
            try:
                token = self.tokens.verify(value.strip())
            except InvalidToken as error:
                raise self._unauthorized(request, need, f"the token is not good: {error}", "invalid_token") from None
            return Identity(token.subject, "token", token.grants, token.catalog)
        given = read_basic(header)
        if given is None:
            raise self._unauthorized(request, need, "the Authorization header cannot be understood")
        if given == ("", ""):
            return Identity(method="anonymous")  # containers/image answers a Basic challenge so without credentials
        address = request.client.host if request.client else ""
        # For the audit log, also when the answer is that there were too many guesses.
        request.scope[SCOPE_KEY] = Identity(given[0], "failed")
        if not await self.login.check(*given, address):
            raise self._unauthorized(request, need, "name or password is wrong")
        return Identity(given[0], "basic")

    def _allowed(self, identity: Identity, need: Need) -> bool:
        if need.catalog:
            return identity.catalog if identity.grants is not None else self.permissions.may_see_something(
                identity.user)
        return all(self.may(identity, action, name) for name, actions in need.actions.items() for action in actions)

    def _refusal(self, request: Request, need: Need, identity: Identity) -> RegistryError:
        if identity.method == "anonymous":
            return self._unauthorized(request, need, "credentials are needed")
        who = identity.user or "anybody"
        if identity.method == "token":
            return self._unauthorized(request, need, f"the token of {who!r} does not grant this", "insufficient_scope")
        return RegistryError(403, "DENIED", f"{who!r} has no permission for {need.scope()}")

    def _unauthorized(self, request: Request, need: Need, message: str, error: str = "") -> RegistryError:
        """401 with the challenge that says how to come back."""
        if self.tokens is None:
            challenge = f'Basic realm="{self.service}", charset="UTF-8"'
        else:
            challenge = f'Bearer realm="{self._base(request)}/token",service="{self.service}"'
            challenge += f',scope="{need.scope()}"' if need.scope() else ""
            challenge += f',error="{error}"' if error else ""
        return RegistryError(401, "UNAUTHORIZED", message, headers={"WWW-Authenticate": challenge})

    def _base(self, request: Request) -> str:
        if self.external_url:
            return self.external_url.rstrip("/")
        host = request.headers.get("Host", "")
        if not host or not set(host) <= _HOST:
            raise RegistryError(400, "UNSUPPORTED", "the Host header is missing or malformed")
        return f"{request.scope.get('scheme', 'http')}://{host}"


_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")
