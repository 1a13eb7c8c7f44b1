"""Requests of the control process to the data process, over the private Unix socket only."""

from __future__ import annotations

import json

from fuseml_core.domain.errors import Invalid, NotFound
from fuseml_core.gateway.asgi import Receive, Scope, Send, answer_json, read_body
from fuseml_core.gateway.connections import Pool
from fuseml_core.gateway.routes import RouteTable

BODY_LIMIT = 16 << 20
INSTANCES = "/internal/instances/"


async def answer_internal(scope: Scope, receive: Receive, send: Send, routes: RouteTable, pool: Pool) -> None:
    """Answer `PUT|GET /internal/routes` and `GET /internal/instances/<workload>`.

    A new table is in force when the answer is sent: no request that starts later goes to an instance that is not
    in it. Idle connections to endpoints that left the table are closed.

    Raises:
        Invalid: The table is not of the right form.
        NotFound: There is no such resource.
    """
    method, path = scope["method"], scope["path"]
    if path == "/internal/routes" and method == "PUT":
        try:
            document = json.loads(await read_body(receive, BODY_LIMIT))
        except ValueError as error:
            raise Invalid(f"The route table is not JSON: {error}") from None
        routes.replace(document)
        pool.keep_only(routes.endpoints())
        await answer_json(send, {"version": routes.version})
    elif path == "/internal/routes" and method == "GET":
        await answer_json(send, routes.document())
    elif path.startswith(INSTANCES) and method == "GET":
        await answer_json(send, {"in_flight": routes.in_flight.get(path.removeprefix(INSTANCES), 0)})
    else:
        raise NotFound(f"There is no {method} {path}")
