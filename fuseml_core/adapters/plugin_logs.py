"""Reading the log of an extension piece by piece, also while it grows and is moved aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from fuseml_core.domain.errors import Invalid

#: Bytes from the end of the log that are looked through for the last lines, and how many of them are given.
_TAIL, _LINES = 256 * 1024, 200


def read_log(path: Path, label: str, cursor: str, limit: int) -> dict[str, Any]:
    """A piece of the lines that the processes of one component wrote.

    Args:
        path: Log of the extension, written by all its components; `.1` beside it is what was there before.
        label: Of the component, `<family>/<name>`.
        cursor: Where the last piece ended, `<inode>:<offset>`; empty: the last lines.
        limit: Bytes to look through at most.

    Returns:
        `text`, and `cursor` for the next piece.

    Raises:
        Invalid: The cursor cannot be read.
    """
    try:
        with path.open("rb") as file:
            inode, size = _place(file)
            if not cursor:
                return _page(file, label, max(0, size - _TAIL), inode, _TAIL, last=_LINES)
            known, offset = _parsed(cursor)
            if known == inode and offset <= size:
                return _page(file, label, offset, inode, limit)
            rest = _rest_of_older(path, label, known, offset, limit)
            return rest or _page(file, label, 0, inode, limit)
    except FileNotFoundError:
        return {"text": "", "cursor": "0:0"}


def _page(file: BinaryIO, label: str, offset: int, inode: int, limit: int, last: int | None = None) -> dict[str, Any]:
    """Whole lines from a place on; what is behind the last newline is still being written."""
    file.seek(offset)
    data = file.read(limit)
    whole = data[:data.rfind(b"\n") + 1] or (data if len(data) == limit else b"")
    lines = [line for line in whole.decode("utf-8", "replace").split("\n") if _is_of(line, label)]
    shown = lines if last is None else lines[-last:]
    return {"text": "".join(f"{line}\n" for line in shown), "cursor": f"{inode}:{offset + len(whole)}"}


def _rest_of_older(path: Path, label: str, inode: int, offset: int, limit: int) -> dict[str, Any] | None:
    """What came into a log after the cursor before it was moved aside; None when there is no more."""
    try:
        with path.with_name(path.name + ".1").open("rb") as file:
            older, size = _place(file)
            return _page(file, label, offset, inode, limit) if older == inode and offset < size else None
    except FileNotFoundError:
        return None


def _place(file: BinaryIO) -> tuple[int, int]:
    """Inode and size of a file."""
    import os

    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size


def _is_of(line: str, label: str) -> bool:
    """Whether a line, `<time> <family>/<name>[<pid>] <text>`, is that of a component."""
    return line.partition(" ")[2].startswith(f"{label}[")


def _parsed(cursor: str) -> tuple[int, int]:
    inode, _, offset = cursor.partition(":")
    if not (cursor.isascii() and len(cursor) < 50 and inode.isdigit() and offset.isdigit()):
        raise Invalid(f"{cursor!r} is not a cursor", hint="Give the one that the previous piece ended with.")
    return int(inode), int(offset)
