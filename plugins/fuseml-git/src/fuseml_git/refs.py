"""Branches and tags, read from the files that git keeps (gitrepository-layout(5)): no process for a look."""

from __future__ import annotations

import os
from pathlib import Path

from fuseml_git.names import FULL

HEADS, TAGS = "refs/heads/", "refs/tags/"


def read_refs(repository: Path, prefix: str = "refs/") -> dict[str, str]:
    """Return object ids by full ref name, for refs that begin with `prefix` (which ends with a slash)."""
    refs = _packed(repository / "packed-refs", prefix)
    for folder, _, files in os.walk(repository / prefix):
        for name in files:
            path = Path(folder, name)
            if name.endswith(".lock"):
                continue
            try:
                value = path.read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                continue
            if FULL.fullmatch(value):
                refs[path.relative_to(repository).as_posix()] = value
    return refs


def branches(repository: Path) -> dict[str, str]:
    """Return commits by branch name."""
    return {ref.removeprefix(HEADS): commit for ref, commit in sorted(read_refs(repository, HEADS).items())}


def _packed(path: Path, prefix: str) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in lines if line and line[0] not in "#^")
    return {ref: value for value, _, ref in pairs if ref.startswith(prefix) and FULL.fullmatch(value)}
