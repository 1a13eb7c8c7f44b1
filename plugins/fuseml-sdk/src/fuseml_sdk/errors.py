"""Errors a plugin may raise, one class for each thing the caller should do about it.

The set is closed: it is the `type` of the problem document (RFC 9457) on the wire, so a caller in another
process or language reacts in the same way as one in the same process.
"""

from __future__ import annotations

from typing import Any, ClassVar


class PluginError(Exception):
    """Base of all errors that cross the plugin boundary.

    Args:
        message: What was wrong and where, in one sentence.
        hint: What to do about it; empty if there is nothing to say.
        details: JSON-serialisable facts for programs.
    """

    #: Problem type on the wire; also the last segment of its URI.
    type: ClassVar[str] = "internal"
    #: HTTP status on the wire.
    status: ClassVar[int] = 500
    #: Whether an unchanged call may succeed later.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", details: dict[str, Any] | None = None) -> None:
        # Names of files may hold bytes that are no UTF-8; whoever writes the message down could not encode them.
        self.message, self.hint = (str(text).encode(errors="replace").decode() for text in (message, hint))
        super().__init__(self.message)
        self.details = details or {}

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(PluginError):
    """The call can never succeed as it is: an argument is wrong. Change the call."""

    type = "invalid-input"
    status = 400


class NotFound(PluginError):
    """What the call names does not exist. Change the name, or create it first."""

    type = "not-found"
    status = 404


class Unsupported(PluginError):
    """The plugin declares not to offer this. Ask another plugin."""

    type = "unsupported"
    status = 501


class NotReady(PluginError):
    """The plugin or its back-end is starting. Call again shortly."""

    type = "not-ready"
    status = 503
    retryable = True


class Retryable(PluginError):
    """A passing fault, such as a lost connection. Call again with backoff."""

    type = "retryable"
    status = 502
    retryable = True


class Permanent(PluginError):
    """The call failed for good although its arguments are right. Do not retry; a person must look."""

    type = "permanent"
    status = 500


class Cancelled(PluginError):
    """The call was cancelled or its deadline passed."""

    type = "cancelled"
    status = 499


class Internal(PluginError):
    """A defect of the plugin: an exception that it did not mean to raise."""

    type = "internal"
    status = 500


#: Every problem type and the class that stands for it.
BY_TYPE: dict[str, type[PluginError]] = {
    cls.type: cls
    for cls in (InvalidInput, NotFound, Unsupported, NotReady, Retryable, Permanent, Cancelled, Internal)
}

__all__ = ["BY_TYPE", "Cancelled", "Internal", "InvalidInput", "NotFound", "NotReady", "Permanent", "PluginError",
           "Retryable", "Unsupported"]
