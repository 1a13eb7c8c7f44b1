"""Requests for services: `/serve/<project>/<service>/…` and `http://<service>.<project>.<domain>/…`."""

from __future__ import annotations

from dataclasses import dataclass

from fuseml_core.domain.errors import Invalid, NotFound, Unavailable
from fuseml_core.gateway.asgi import Receive, Scope, Send, answer_json, header
from fuseml_core.gateway.proxy import Hop, Proxy
from fuseml_core.gateway.routes import Route, RouteTable

PREFIX = "/serve/"
BARE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class _Call:
    """A request for a service: its key, the path prefix in front of it, and the path inside it."""

    project: str
    service: str
    prefix: str
    inner: bytes


class Serving:
    """Finds the instance that serves and passes the request on."""

    def __init__(self, routes: RouteTable, proxy: Proxy) -> None:
        self.routes = routes
        self.proxy = proxy

    async def by_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path starts with `/serve/`. Raises what :meth:`_call` raises."""
        parts = bytes(scope["raw_path"]).split(b"/", 4)
        if len(parts) < 4 or not parts[2] or not parts[3]:
            raise Invalid("The path names no service", hint="Use /serve/<project>/<service>/predict.")
        project, service = parts[2].decode("latin-1"), parts[3].decode("latin-1")
        inner = b"/" + parts[4] if len(parts) > 4 else b"/"
        await self._call(scope, receive, send, _Call(project, service, f"{PREFIX}{project}/{service}", inner))

    async def by_host(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        """Answer a request for `<service>.<project>` of the domain. Raises what :meth:`_call` raises."""
        route = self.routes.find_host(name)
        if not route:
            raise NotFound(f"There is no service {name!r}", hint="`fuseml service list` shows what there is.")
        await self._call(scope, receive, send, _Call(route.project, route.service, "", bytes(scope["raw_path"])))

    async def _call(self, scope: Scope, receive: Receive, send: Send, call: _Call) -> None:
        """Pass a request on.

        Raises:
            NotFound: There is no such service.
            Unavailable: It is not ready, or its instance does not answer.
        """
        if call.inner == b"/" and scope["method"] in BARE_METHODS:
            await answer_json(send, self._about(scope, call))
            return
        query = bytes(scope["query_string"])
        target = call.inner + b"?" + query if query else call.inner

        def resolve() -> Hop:
            route = self._ready(call)
            assert route.endpoint is not None
            return Hop(route.endpoint, target, call.prefix, f"service {call.project}/{call.service}",
                       hint="`fuseml service list` shows its state.", instance=route.instance)

        await self.proxy.forward(scope, receive, send, resolve)

    def _find(self, call: _Call) -> Route:
        route = self.routes.find(call.project, call.service)
        if not route:
            raise NotFound(f"There is no service {call.service!r} in project {call.project!r}",
                           hint="`fuseml service list` shows what there is.")
        return route

    def _ready(self, call: _Call) -> Route:
        route = self._find(call)
        if not route.endpoint:
            raise Unavailable(f"The service {call.project}/{call.service} is {route.state}",
                              hint="`fuseml service list` shows its state; try again when it is ready.")
        return route

    def _about(self, scope: Scope, call: _Call) -> dict[str, str]:
        route = self._find(call)
        host = header(scope, b"host") or "localhost"
        return {"project": route.project, "service": route.service, "state": route.state,
                "instance": route.instance,
                "predict_url": f"{scope.get('scheme') or 'http'}://{host}{call.prefix}{route.predict_path}"}
