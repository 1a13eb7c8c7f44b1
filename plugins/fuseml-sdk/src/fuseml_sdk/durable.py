"""Files that are whole after a power cut: written beside their place, put on disk, then renamed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file atomically and durably, whatever the umask says.

    Args:
        path: The file; its directory must exist.
        data: All of its contents.
        mode: Permission bits.

    Raises:
        OSError: It cannot be written; the old file is still there.
    """
    draft = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory, such as after a rename, survive a power cut.

    Raises:
        OSError: It is not there or no directory.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
