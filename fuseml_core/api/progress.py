"""Answers to long work: lines of JSON that tell how it goes on, and at last its result or an error."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastapi.responses import StreamingResponse

from fuseml_core.api.problems import explained
from fuseml_core.domain.errors import FusemlError
from fuseml_core.service.extensions.ports import Progress

_Event = dict[str, Any]
_Events = queue.SimpleQueue[_Event | None]
#: Does the work, telling lines of progress, and returns the fields of the result.
Work = Callable[[Progress], dict[str, Any]]


def streamed(what: str, work: Work) -> StreamingResponse:
    """Do long work in a thread of its own and tell about it line by line; it goes on when the client goes away.

    Args:
        what: Is done, in one word, such as `upgrade`.
        work: Its result becomes the last line, `{"event": "result", …}`; before it come lines `{"event": "progress",
            "text": …}`. An error becomes `{"event": "error", …}` with the fields of a problem document (RFC 9457).
    """
    events = _Events()
    threading.Thread(target=_run, args=(what, work, events), name=f"fuseml-{what}", daemon=True).start()
    return StreamingResponse(_lines(events), media_type="application/x-ndjson")


def _run(what: str, work: Work, events: _Events) -> None:
    try:
        done = work(lambda text: events.put({"event": "progress", "text": text}))
        events.put({"event": "result", **done})
    except Exception as error:
        events.put(_problem(explained(error, f"the {what}")))
    finally:
        events.put(None)


def _lines(events: _Events) -> Iterator[bytes]:
    while (event := events.get()) is not None:
        yield json.dumps(event, ensure_ascii=False).encode() + b"\n"


def _problem(error: FusemlError) -> _Event:
    return {"event": "error", "type": f"urn:fuseml:problem:{error.code}", "title": error.code.replace("-", " "),
            "status": error.status, "detail": error.message, "code": error.code, "hint": error.hint,
            "details": error.details}
