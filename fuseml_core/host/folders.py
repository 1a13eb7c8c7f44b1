"""The host's folders beside the state folder of an extension.

A plugin can do what it likes in its state folder, and put a link there where the server expects a folder. So what the
server makes for it lies beside: `<state>/../.<name>/`, which is the server's, with leaves that are the plugin's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path

#: Seconds that compiled modules are kept for an interpreter that is not started.
_BYTE_CODE_AGE = 30 * 24 * 3600.0
#: Seconds after which what a killed server left behind is removed; whatever uses it has ended or is far older.
_LEFTOVER_AGE = 7 * 24 * 3600.0


class HostFolders:
    """Temporary files, compiled modules, and sources and inputs that are handed over, of one extension.

    Args:
        state_dir: State folder of the extension.
    """

    def __init__(self, state_dir: Path) -> None:
        self.root = state_dir.parent / f".{state_dir.name}"

    def prepare(self) -> None:
        """Make them, passable for the extension's user; remove what is left over."""
        names = ("tmp", "byte-code", "incoming", "making", "workloads")
        for path in (self.root, *(self.root / name for name in names)):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            path.chmod(0o711)
        (self.root / "making").chmod(0o700)
        _remove_old(self.temporaries, _LEFTOVER_AGE)
        _remove_old(self.root / "incoming", _LEFTOVER_AGE)
        _remove_old(self.root / "making", _LEFTOVER_AGE)
        _remove_old(self.root / "byte-code", _BYTE_CODE_AGE)

    @property
    def incoming(self) -> Path:
        """Where sources appear that are handed over."""
        return self.root / "incoming"

    @property
    def workloads(self) -> Path:
        """Where inputs of workloads lie until they are collected."""
        return self.root / "workloads"

    @property
    def temporaries(self) -> Path:
        """Where the folders for temporary files lie."""
        return self.root / "tmp"

    def temporary(self) -> Path:
        """A new folder for temporary files of one process."""
        path = self.temporaries / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        return path

    def byte_code(self, python: str) -> Path:
        """Where modules are kept that an interpreter compiled: its environment is not to be changed by what runs in it.

        Args:
            python: Path of the interpreter.
        """
        path = self.root / "byte-code" / hashlib.sha256(python.encode()).hexdigest()[:16]
        path.mkdir(mode=0o700, exist_ok=True)
        os.utime(path)
        return path

    def making(self) -> Path:
        """A new folder that the extension cannot reach, to be renamed to where it can."""
        path = self.root / "making" / secrets.token_hex(8)
        path.mkdir(mode=0o700, parents=True)
        return path


def _remove_old(folder: Path, age: float) -> None:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - entry.lstat().st_mtime > age:
                shutil.rmtree(entry, ignore_errors=True)
