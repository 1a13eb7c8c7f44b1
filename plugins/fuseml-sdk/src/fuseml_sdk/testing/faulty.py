"""`python -m fuseml_sdk.testing.faulty`: as `python -m fuseml_sdk.serve`, with the faults that variables ask for."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fuseml_sdk.serve.__main__ import main as serve
from fuseml_sdk.testing.faults import BROKEN_IMPORT, GIL_HOG, SLOW_START


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
    held = float(os.environ.pop(GIL_HOG, "0"))
    if held:
        signal.signal(signal.SIGUSR1, lambda *_: _hold(held))
    time.sleep(float(os.environ.pop(SLOW_START, "0")))
    return serve(arguments)


def _hold(seconds: float) -> Any:
    """Sleep in C without letting go of the interpreter: `PyDLL` keeps the lock during the call."""
    return ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
