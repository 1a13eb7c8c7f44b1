"""Problem documents (RFC 9457) as answers of the data process."""

from __future__ import annotations

import json
from typing import Any

from fuseml_core.domain.errors import FusemlError
from fuseml_core.gateway.asgi import Headers, Send, answer

TITLES = {400: "Bad request", 403: "Forbidden", 404: "Not found", 405: "Method not allowed", 409: "Conflict",
          413: "Too large", 421: "Misdirected request", 502: "Bad gateway", 503: "Unavailable", 504: "Gateway timeout"}


def problem(status: int, code: str, detail: str, *, hint: str = "", details: dict[str, Any] | None = None) -> bytes:
    """Write one problem document.

    Args:
        status: HTTP status, repeated in the document.
        code: Code of the error class, such as `not-found`.
        detail: What was wrong, in one sentence.
        hint: What to do; may be empty.
        details: Facts for programs.
    """
    return json.dumps({
        "type": f"urn:fuseml:problem:{code}", "title": TITLES.get(status, "Error"), "status": status,
        "detail": detail, "code": code, "hint": hint, "details": details or {},
    }).encode()


async def answer_problem(send: Send, status: int, code: str, detail: str, *, hint: str = "",
                         headers: Headers = ()) -> None:
    """Answer with a problem document; arguments as for :func:`problem`."""
    await answer(send, status, problem(status, code, detail, hint=hint), media="application/problem+json",
                 headers=headers)


async def answer_error(send: Send, error: FusemlError, status: int | None = None) -> None:
    """Answer with what an error of FuseML says; `status` overrides the status of its class."""
    number = status or error.status
    retry: Headers = ((b"retry-after", b"1"),) if number == 503 else ()
    await answer_problem(send, number, error.code, error.message, hint=error.hint, headers=retry)
