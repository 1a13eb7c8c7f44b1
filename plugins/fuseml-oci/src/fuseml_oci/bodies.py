"""Reading response bodies: in pieces, with a limit, and never slower than a minimum."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator

import requests
import urllib3.exceptions

from fuseml_oci.digests import BUFFER
from fuseml_sdk.errors import Permanent, Retryable

#: Bytes a second, on average over one read timeout, below which a server counts as stalled.
MINIMUM_RATE = 1024


def pieces(response: requests.Response, limit: int, window: float, what: str) -> Iterator[bytes]:
    """Yield the body piece by piece.

    Args:
        response: Sent with `stream=True`.
        limit: Bytes after which the body is refused.
        window: Seconds over which the minimum rate is measured.
        what: What is read, for errors.

    Raises:
        Permanent: There is more than `limit`, or it is compressed although nobody asked for that.
        Retryable: The connection broke, or the server is too slow.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise Permanent(f"{what}: the server compressed the body although it must not")
    raw, total, in_window, since = response.raw, 0, 0, time.monotonic()
    while True:
        try:
            piece = raw.read1(BUFFER, decode_content=False)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise Retryable(f"{what}: the connection broke after {total} bytes: {_reason(error)}") from None
        if not piece:
            return
        total, in_window = total + len(piece), in_window + len(piece)
        if total > limit:
            raise Permanent(f"{what}: the server sends more than the expected {limit} bytes")
        if (now := time.monotonic()) - since > window:
            if in_window < MINIMUM_RATE * window:
                raise Retryable(f"{what}: the server is too slow: {in_window} bytes in {now - since:.0f} s")
            in_window, since = 0, now
        yield piece


def read_body(response: requests.Response, limit: int, window: float, what: str) -> bytes:
    """Return a small body whole; arguments and errors as for `pieces`."""
    declared = response.headers.get("Content-Length", "")
    if declared.isdigit() and int(declared) > limit and response.request.method != "HEAD":
        raise Permanent(f"{what}: the server announces {declared} bytes, more than the expected {limit}")
    return b"".join(pieces(response, limit, window, what))


def _reason(error: Exception) -> str:
    return str(error).partition("Caused by")[0][:200] or type(error).__name__
