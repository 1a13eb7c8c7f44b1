"""Requests for the control process, passed on to its Unix socket."""

from __future__ import annotations

from pathlib import Path

from fuseml_core.gateway.asgi import Receive, Scope, Send
from fuseml_core.gateway.endpoint import Endpoint
from fuseml_core.gateway.proxy import Hop, Proxy

#: Paths (with everything below them) that the control process answers.
PATHS = ("/api", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json")
#: Methods that may be sent a second time when the connection broke (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})


def is_for_control(path: str) -> bool:
    """Whether the control process answers this path."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in PATHS)


async def answer_from_control(scope: Scope, receive: Receive, send: Send, proxy: Proxy, socket: Path) -> None:
    """Pass a request on to the control process; predictions, git and the registry need it not.

    Raises:
        Unavailable: The control process is not there.
    """
    query = bytes(scope["query_string"])
    target = bytes(scope["raw_path"]) + (b"?" + query if query else b"")
    hop = Hop(Endpoint(path=str(socket)), target, "", "control process", once=scope["method"] not in IDEMPOTENT,
              hint="It is restarted by itself, or else by `fuseml server start`; `fuseml server logs` says why it "
                   "stopped.")
    await proxy.forward(scope, receive, send, lambda: hop)
