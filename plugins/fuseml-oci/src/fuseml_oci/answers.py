"""Turning what a registry answers into errors that say what to do (distribution-spec, "Error Codes")."""

from __future__ import annotations

import requests

from fuseml_oci.descriptor import read_object
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, PluginError, Retryable

#: Characters of a registry's own message that are passed on.
MAX_MESSAGE = 500


def expect(response: requests.Response, statuses: tuple[int, ...], what: str) -> requests.Response:
    """Return the response if its status is among `statuses`.

    Args:
        response: With its body read.
        statuses: Those that mean success.
        what: The operation with registry, repository and digest, such as `oci://h/r@sha256:…: cannot be pulled`.

    Raises:
        NotFound, InvalidInput, Retryable, Permanent: According to status and error code.
    """
    if response.status_code in statuses:
        return response
    error = failure(response.status_code, _errors(response), what)
    if waiting := response.headers.get("Retry-After"):
        error.details["retry_after"] = waiting[:40]
    raise error


def failure(status: int, errors: list[tuple[str, str]], what: str) -> PluginError:
    """Choose the error for a status and the registry's (code, message) pairs."""
    told = "; ".join(f"{code}: {message}" if message else code for code, message in errors)
    message = f"{what}: the registry answers {status}" + (f" {told}" if told else "")
    details = {"status": status, "codes": [code for code, _ in errors]}
    if status == 404:
        return NotFound(message, details=details)
    if status in (401, 403):
        return Permanent(message, hint="log in with `fuseml registry login HOST`, or ask for access", details=details)
    if status in (400, 405, 409, 413, 416, 422):
        return InvalidInput(message, details=details)
    if status in (408, 429) or status >= 500:
        return Retryable(message, details=details)
    return Permanent(message, details=details)


def _errors(response: requests.Response) -> list[tuple[str, str]]:
    try:
        listed = read_object(response.content, "error").get("errors")
    except InvalidInput:
        return []
    found = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    return [(str(e.get("code", ""))[:60], _printable(e.get("message"))) for e in found[:5]]


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_MESSAGE])
