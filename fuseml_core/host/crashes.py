"""What is remembered of plugin processes that failed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrashReport:
    """One crash or failed start.

    Attributes:
        at: When, in seconds since the epoch.
        cause: `exit code N`, `signal NAME`, `out of memory` or `did not start`.
        hook: Hook that was being served; empty if none was.
        call_id: Its call.
        output: The last lines that the process wrote.
        ran_for: Seconds that it ran.
    """

    at: float
    cause: str
    hook: str = ""
    call_id: str = ""
    output: tuple[str, ...] = ()
    ran_for: float = 0.0
