"""Errors of the SDK in the words of the core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fuseml_core.domain.errors import Failed, FusemlError, Internal, Invalid, NotFound, Refused, Unavailable
from fuseml_sdk.errors import PluginError

_CLASSES: dict[str, type[FusemlError]] = {
    "invalid-input": Invalid, "not-found": NotFound, "unsupported": Refused, "not-ready": Unavailable,
    "retryable": Unavailable, "permanent": Failed, "cancelled": Failed, "internal": Internal,
}


@contextmanager
def translated(prefix: str = "") -> Iterator[None]:
    """Raise what the SDK raises as the error of the core that calls for the same reaction.

    Args:
        prefix: Put before the message, such as `extension mlflow: `.
    """
    try:
        yield
    except PluginError as error:
        raise _CLASSES[error.type](prefix + error.message, hint=error.hint, details=error.details) from error
