"""The Range header of reads (RFC 9110, 14.1.2) and Content-Range of uploads (distribution-spec, end-5)."""

from __future__ import annotations

import re

_BYTES = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE)
_CHUNK = re.compile(r"(\d+)-(\d+)")


class Unsatisfiable(Exception):
    """The range begins behind the end, is empty or is reversed: 416."""


def read_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (first, past the last) byte of a Range header.

    Returns:
        None when the whole is to be sent: no header, another unit, or several ranges, which may be ignored.

    Raises:
        Unsatisfiable: No byte of the content is in the range.
    """
    match = _BYTES.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start, stop = size - length, size
    else:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
    if start >= stop:
        raise Unsatisfiable
    return start, stop


def chunk_range(header: str) -> tuple[int, int] | None:
    """Return (first, last) of an upload's Content-Range `<first>-<last>`; None if malformed."""
    match = _CHUNK.fullmatch(header.strip())
    if not match:
        return None
    first, last = int(match[1]), int(match[2])
    return (first, last) if first <= last else None
