"""Removing read-only trees."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from fuseml_files.layout import Layout


def discard(layout: Layout, place: Path) -> int:
    """Remove the contents in a place: first out of sight, then from disk. Returns their bytes."""
    freed = size_of(place)
    trash = layout.trash()
    with contextlib.suppress(FileNotFoundError):
        place.rename(trash)
        remove_tree(trash)
    return freed


def remove_tree(path: Path) -> None:
    """Remove a directory whose directories may be read-only; what cannot be removed now goes with the next sweep."""
    for at, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            Path(at).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)


def size_of(path: Path) -> int:
    """Bytes of all files below a directory."""
    total = 0
    for at, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(at, name).lstat().st_size
    return total
