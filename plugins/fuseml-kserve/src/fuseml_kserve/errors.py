"""What can be wrong with a request."""

from __future__ import annotations


class RequestError(Exception):
    """The request cannot be answered.

    Args:
        message: What is wrong with it, for the caller.
        status: HTTP status, 400 by default.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
