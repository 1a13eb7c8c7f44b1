"""Keeps what plugins report within what the server can store and people can read.

The schemas say what a status or an error is, not how large its texts and numbers may be. A plugin that goes beyond all
measure there must not keep a step from ending, or a list from being printed.
"""

from __future__ import annotations

import math
from typing import Any

from fuseml_sdk.errors import Internal
from fuseml_sdk.types import LogChunk, WorkloadStatus

#: Characters of a message, of a word such as `reason` and of a line; lines of `log_tail`, as its field says; warnings.
MOST_TEXT, MOST_WORD, MOST_LINE, MOST_LINES, MOST_WARNINGS = 10_000, 200, 2_000, 20, 100
#: Metrics of a workload, as many as the process agent takes in; phases with a timing; characters of a cursor.
MOST_METRICS, MOST_TIMINGS, MOST_CURSOR = 10_000, 100, 10_000
#: What an INTEGER of both databases holds.
_INTEGER = 2**31 - 1
#: Seconds since the epoch at the end of the year 9999, the last that Python can print.
_LAST_SECOND = 253_402_300_799.0


def bounded(status: WorkloadStatus) -> WorkloadStatus:
    """The status with texts cut to a readable length, and without numbers that nothing can hold; often itself."""
    made: dict[str, Any] = {
        "phase": cut(status.phase, MOST_WORD),
        "reason": cut(status.reason, MOST_WORD),
        "message": cut(status.message, MOST_TEXT),
        "exit_code": _integer(status.exit_code),
        "signal": _integer(status.signal),
        "submitted_at": _moment(status.submitted_at),
        "started_at": _moment(status.started_at),
        "ended_at": _moment(status.ended_at),
        "log_tail": [cut(line, MOST_LINE) for line in status.log_tail[-MOST_LINES:]],
        "warnings": [cut(line, MOST_LINE) for line in status.warnings[:MOST_WARNINGS]],
        "timings": {cut(phase, MOST_WORD): took for phase, took in list(status.timings.items())[:MOST_TIMINGS]
                    if math.isfinite(took) and took >= 0.0},
        "metrics": [m if len(m.key) <= MOST_WORD else m.model_copy(update={"key": cut(m.key, MOST_WORD)})
                    for m in status.metrics[:MOST_METRICS]],
    }
    changed = {name: value for name, value in made.items() if value != getattr(status, name)}
    return status.model_copy(update=changed) if changed else status


def bounded_chunk(chunk: LogChunk, cursor: str, limit: int) -> LogChunk:
    """A piece of a log with at most the text that was asked for; often itself.

    Args:
        chunk: What the agent answered.
        cursor: That it was asked with.
        limit: Bytes that it was asked for at most; decoded, they are as many characters or fewer.

    Raises:
        Internal: Its cursor leads nowhere: who reads on would read the same for ever.
    """
    if len(chunk.cursor) > MOST_CURSOR:
        raise Internal(f"its cursor of a log has {len(chunk.cursor)} characters; at most {MOST_CURSOR} are kept")
    if chunk.text and chunk.cursor == cursor:
        raise Internal("it gives the same piece of a log again and again: the cursor that it returns does not move")
    if len(chunk.text) <= limit:
        return chunk
    note = f"\n[{len(chunk.text) - limit} characters were left out: the agent gave more than it was asked for]\n"
    return chunk.model_copy(update={"text": chunk.text[:limit] + note})


def cut(text: str, most: int) -> str:
    """At most so many characters of a text; the last one tells that there were more."""
    return text if len(text) <= most else text[:most - 1] + "…"


def _integer(value: int | None) -> int | None:
    return value if value is not None and abs(value) <= _INTEGER else None


def _moment(value: float | None) -> float | None:
    return value if value is not None and 0.0 <= value <= _LAST_SECOND else None
