"""What a registry of its own answers outside `/v2`: tokens, metrics, health, pages; and to whom it answers at all."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fuseml_registry.access.identity import Identity, Need
from fuseml_registry.app import RegistryApp
from fuseml_registry.configuration import Configuration
from fuseml_registry.errors import RegistryError
from fuseml_registry.pages.app import create_app as create_pages
from fuseml_registry.pages.visibility import SCOPE_KEY, Visibility
from fuseml_registry.parts import make_parts
from fuseml_registry.routing import PREFIX

#: Paths that are found inside the registry under another name.
_ELSEWHERE = {"/token": f"{PREFIX}/_token", "/metrics": f"{PREFIX}/_metrics"}
_PAGES = "/marketplace"
_READ = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Site:
    """The application of a registry of its own.

    Args:
        config: Its configuration.
    """

    def __init__(self, config: Configuration) -> None:
        parts = make_parts(config)
        self._gate = parts.gate
        self._registry: ASGIApp = RegistryApp(config, parts)
        self._pages: ASGIApp = create_pages({"root": config.root, "keys": config.root / "keys",
                                             "external_url": config.listen.external_url})
        # Without authentication, a page in a browser of this machine could do everything (DNS rebinding).
        self._private = config.auth.method == "none" and config.listen.host in _LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's life span."""
        if scope["type"] == "lifespan":
            await self._registry(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        path = _ELSEWHERE.get(str(scope["path"]), str(scope["path"]))
        if problem := self._refusal(request):
            await problem.response()(scope, receive, send)
        elif path == PREFIX or path.startswith(f"{PREFIX}/"):
            await self._registry({**scope, "path": path, "root_path": f"{scope.get('root_path', '')}{PREFIX}"},
                                 receive, send)
        elif path == _PAGES or path.startswith(f"{_PAGES}/"):
            await self._show(request, receive, send)
        elif path == "/":
            await RedirectResponse(f"{scope.get('root_path', '')}{_PAGES}/", 307)(scope, receive, send)
        elif path == "/healthz":
            await JSONResponse({"status": "ok", "registry": PREFIX})(scope, receive, send)
        else:
            await RegistryError(404, "NAME_UNKNOWN", f"there is no {path[:200]!r}; the registry is at "
                                f"{PREFIX}/").response()(scope, receive, send)

    async def _show(self, request: Request, receive: Receive, send: Send) -> None:
        """Answer with a page; who may pull nothing is asked for a name and password, as browsers know it."""
        found = {**request.scope, "root_path": f"{request.scope.get('root_path', '')}{_PAGES}"}
        if gate := self._gate:
            try:
                user = (await gate.admit(request, Need(catalog=True))).user
            except RegistryError as error:
                if error.status == 401:
                    error.headers["WWW-Authenticate"] = f'Basic realm="{gate.service}", charset="UTF-8"'
                await error.response()(found, receive, send)
                return
            found[SCOPE_KEY] = Visibility(user, lambda name: bool(gate.visible(Identity(user), [name])))
        await self._pages(found, receive, send)

    def _refusal(self, request: Request) -> RegistryError | None:
        """The clients of registries are no browsers."""
        host = request.headers.get("Host", "").rpartition(":")[0] or request.headers.get("Host", "")
        if self._private and host.lower() not in _LOOPBACK:
            return RegistryError(421, "DENIED", f"this registry does not answer for the host {host[:100]!r}; "
                                 "use 127.0.0.1 or localhost")
        if request.method not in _READ and "Origin" in request.headers:
            return RegistryError(403, "DENIED", "a page of a web site may not change anything here")
        return None
