"""`FUSEML_TRACE_HOOKS` in a plugin's own process: lines on standard error for the begin and end of each call of a hook.

Servers trace what they call by themselves; this shows an author every call, whoever makes it. `fuseml plugin dev` sets
it. Arguments and results are not written, because they may hold secrets.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from fuseml_sdk.serve.wire import Request, Response

#: 1 for every hook, or a glob of their names such as `store_*`.
VARIABLE = "FUSEML_TRACE_HOOKS"
#: What the line at the end of a call begins with; a JSON object follows: number, at, hook, ms, outcome, call, message.
MARK = "fuseml-call "
#: The same for its begin: number, at, hook, and wait, the seconds that it may do nothing but wait.
BEGUN = "fuseml-call-begun "
_PREFIX = "/hooks/"
Respond = TypeVar("Respond", bound=Callable[..., Response])


def traced(respond: Respond, wanted: str) -> Respond:
    """Wrap what answers requests, so that each call of a wanted hook writes a line when it begins and when it ends.

    Args:
        respond: Takes the request first.
        wanted: Value of :data:`VARIABLE`; empty or 0 leaves `respond` as it is.
    """
    if wanted in ("", "0"):
        return respond
    glob, numbers = "*" if wanted == "1" else wanted, itertools.count(1)

    def answer(request: Request, *more: object, **named: object) -> Response:
        hook = request.path.rpartition(_PREFIX)[2]
        if _PREFIX not in request.path or not fnmatchcase(hook, glob):
            return respond(request, *more, **named)
        at, started, number = time.time(), time.perf_counter(), next(numbers)
        _write(BEGUN, {"number": number, "at": round(at, 3), "hook": hook, "wait": _wait(hook, request)})
        response = respond(request, *more, **named)
        seconds = time.perf_counter() - started
        _write(MARK, {"number": number, "at": round(at, 3), "hook": hook, "ms": round(seconds * 1000, 2),
                      **_outcome(response), "call": request.headers.get("fuseml-call-id", "")})
        return response

    return answer  # type: ignore[return-value]


def _write(mark: str, line: dict[str, Any]) -> None:
    sys.stderr.write(f"{mark}{json.dumps(line)}\n")
    sys.stderr.flush()


def _wait(hook: str, request: Request) -> float:
    """How long a hook that follows events was asked to wait for one."""
    if not hook.endswith("_events"):
        return 0.0
    try:
        return float(json.loads(request.body).get("wait") or 0.0)
    except (ValueError, TypeError, AttributeError):
        return 0.0


def _outcome(response: Response) -> dict[str, str]:
    """`ok`, or the type of the error with what it says."""
    if response.status == 200:
        return {"outcome": "ok"}
    try:
        problem = json.loads(response.body)
        return {"outcome": str(problem["type"]).rpartition("/")[2].rpartition(":")[2],
                "message": str(problem.get("detail", ""))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"outcome": str(response.status)}
