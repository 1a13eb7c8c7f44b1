"""Errors of FuseML, one class for each way of recovering.

One table maps each class to its code, HTTP status and exit code of the CLI, so that an error reads the same
wherever it surfaces.
"""

from __future__ import annotations

from typing import Any, ClassVar


class FusemlError(Exception):
    """Base of all errors that FuseML means to raise.

    Args:
        message: What was wrong and where.
        hint: What to do; empty if there is nothing to say.
        details: JSON-serialisable facts for programs.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class Invalid(FusemlError):
    """The request is wrong in itself; change it."""

    code, status, exit_code = "invalid", 400, 2


class NotFound(FusemlError):
    """What is named does not exist; check the name or create it."""

    code, status, exit_code = "not-found", 404, 3


class Conflict(FusemlError):
    """The request contradicts what is there, such as a name that is taken."""

    code, status, exit_code = "conflict", 409, 4


class Refused(FusemlError):
    """The request is understood and not allowed: policy, trust, limits or pins."""

    code, status, exit_code = "refused", 403, 5


class Unavailable(FusemlError):
    """Something needed does not answer now; the same request may succeed later."""

    code, status, exit_code = "unavailable", 503, 6


class Failed(FusemlError):
    """Work that was started did not succeed: a run, an installation, a plugin."""

    code, status, exit_code = "failed", 500, 1


class Internal(FusemlError):
    """A defect of FuseML itself."""

    code, status, exit_code = "internal", 500, 70


#: Every error class by its code.
BY_CODE: dict[str, type[FusemlError]] = {
    cls.code: cls for cls in (Invalid, NotFound, Conflict, Refused, Unavailable, Failed, Internal)
}
