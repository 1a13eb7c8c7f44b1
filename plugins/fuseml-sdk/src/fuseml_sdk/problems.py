"""Errors on the wire: problem documents (RFC 9457) made from plugin errors, and read back into the same class."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from fuseml_sdk.errors import BY_TYPE, Internal, PluginError

#: Media type of a problem document.
MEDIA_TYPE = "application/problem+json"
#: Characters of a message or a hint that are read; whoever says more than a page puts it into a log.
MOST_TEXT = 20_000


def to_problem(error: BaseException) -> dict[str, Any]:
    """Describe an error. An exception that is no `PluginError` is a defect: `internal` with its type and message."""
    known = error if isinstance(error, PluginError) else unexpected(error)
    return {
        "type": known.type,
        "title": type(known).__name__,
        "status": known.status,
        "detail": known.message,
        "hint": known.hint,
        "details": json.loads(json.dumps(known.details, default=str)),
    }


def from_problem(document: Any) -> PluginError:
    """Make the error that a problem document stands for; one that is not understood becomes `Internal`."""
    if not isinstance(document, dict):
        return Internal(f"the answer is no problem document: {str(document)[:200]}")
    cls = BY_TYPE.get(str(document.get("type", "")).rsplit("/", 1)[-1], Internal)
    # JSON can carry halves of surrogate pairs, which nobody could write down again.
    details = json.loads(json.dumps(document.get("details"), ensure_ascii=False).encode(errors="replace"))
    return cls(str(document.get("detail") or document.get("title") or "no reason given")[:MOST_TEXT],
               hint=str(document.get("hint") or "")[:MOST_TEXT], details=details if isinstance(details, dict) else None)


def unexpected(error: BaseException) -> Internal:
    """The defect that an exception reveals which the plugin did not mean to raise."""
    text = str(error)
    if isinstance(error, ValidationError):
        # Its own text quotes the input, and what a plugin is configured with holds secrets.
        found = error.errors(include_url=False, include_context=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, each['loc'])) or error.title}: {each['msg']}" for each in found[:10])
    name = type(error).__name__
    return Internal(f"{name}: {text}" if text else name, details={"exception": name})
