"""Ways a workload ends early."""

from __future__ import annotations


class StepFailed(Exception):
    """The workload cannot succeed. `reason` is one word for programs, `message` a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Stopped(BaseException):
    """The supervisor was told to stop; not an `Exception`, so that no cleanup swallows it."""
