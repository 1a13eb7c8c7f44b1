"""The private directories of a server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fuseml_core.domain.errors import Refused
from fuseml_core.settings import Settings

PRIVATE = 0o700
#: Directories below FUSEML_HOME that exist whenever a server runs.
BELOW_HOME = ("run", "logs", "git", "registry", "artifacts", "work", "envs", "cache", "extensions")


def prepare_directories(settings: Settings) -> None:
    """Create FUSEML_HOME and the directory for sockets, for their owner only.

    Raises:
        Refused: A directory belongs to somebody else, or cannot be made.
    """
    try:
        for path in (settings.home, *(settings.home / name for name in BELOW_HOME)):
            path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        settings.runtime_dir.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"The directory {error.filename} cannot be made: {error.strerror}",
                      hint="Set FUSEML_HOME to a directory that you may write to.") from None
    _own(settings.home, "FUSEML_HOME")
    _own(settings.runtime_dir.parent, "The directory for sockets")
    _own(settings.runtime_dir, "The directory for sockets")
    settings.runtime_dir.chmod(PRIVATE)


def _own(path: Path, what: str) -> None:
    """Refuse a directory that another user owns: whoever made it first could read or replace our sockets."""
    found = path.stat() if what == "FUSEML_HOME" else path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{what}, {path}, is not a directory")
    if found.st_uid != os.getuid():
        raise Refused(f"{what}, {path}, belongs to user {found.st_uid}, not to {os.getuid()}",
                      hint="Remove it, or set XDG_RUNTIME_DIR and FUSEML_HOME to directories of your own.")
