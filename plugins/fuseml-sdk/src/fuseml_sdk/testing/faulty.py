"""`python -m fuseml_sdk.testing.faulty`: as `python -m fuseml_sdk.serve`, with the faults that variables ask for."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from fuseml_sdk.serve.__main__ import main as serve
from fuseml_sdk.testing.faults import BROKEN_IMPORT, GIL_HOG, SLOW_START, SMALL_DISK

#: Of unshare(2) and mount(2).
_NEW_MOUNTS, _NEW_USERS, _PRIVATE = 0x00020000, 0x10000000, 1 << 18 | 1 << 14


class _Broken:
    """Finder that refuses one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuse the module; leave others to other finders."""
        del path, target
        if name == self._name:
            raise ImportError(f"cannot import {name!r}: broken on purpose")
        return None


def main(arguments: list[str]) -> int:
    """Arrange the faults, then serve. Returns the exit code."""
    broken = os.environ.pop(BROKEN_IMPORT, "")
    if broken:
        sys.modules.pop(broken, None)
        sys.meta_path.insert(0, _Broken(broken))
    disk = int(os.environ.pop(SMALL_DISK, "0"))
    if disk:
        _mount(disk)
    held = float(os.environ.pop(GIL_HOG, "0"))
    if held:
        signal.signal(signal.SIGUSR1, lambda *_: _hold(held))
    time.sleep(float(os.environ.pop(SLOW_START, "0")))
    return serve(arguments)


def _mount(size: int) -> None:
    """Mount a disk in memory over the home, which is the state directory in tests, for this process alone."""
    home, user, group = os.environ["HOME"], os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _done(libc.unshare(_NEW_MOUNTS | (_NEW_USERS if user else 0)))
        if user:
            maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
            for name, text in maps.items():
                Path(f"/proc/self/{name}").write_text(text)
        _done(libc.mount(b"none", b"/", None, _PRIVATE, None))
        _done(libc.mount(b"tmpfs", os.fsencode(home), b"tmpfs", 0, f"size={size},mode=700".encode()))
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"fuseml_sdk.testing: no disk of its own for the state directory: {error}\n")
    else:
        Path(os.environ["TMPDIR"]).mkdir(mode=0o700)


def _done(code: int) -> None:
    if code < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _hold(seconds: float) -> Any:
    """Sleep in C without letting go of the interpreter: `PyDLL` keeps the lock during the call."""
    return ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
