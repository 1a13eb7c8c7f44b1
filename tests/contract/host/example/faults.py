"""What a plugin may do to itself and to its machine, by name; each takes the state folder."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

_leaked = []


def floods_stderr(_):
    """20 MiB, more than any pipe holds."""
    for _ in range(20):
        sys.stderr.write("a line of a flood\n" * 60_000)
    sys.stderr.flush()


def forks_children(state):
    """One ordinary child, one that has closed what it inherited, one that ignores what it is asked."""
    pids = [subprocess.Popen(["sleep", "600"]).pid,
            subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).pid,
            subprocess.Popen(["sh", "-c", "trap '' TERM HUP INT; sleep 600 & wait"]).pid]
    (state / "children").write_text(" ".join(map(str, pids)))


def ignores_sigterm(_):
    """By the C library: Python allows it in the main thread alone."""
    ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))


def holds_the_interpreter(_):
    """For three seconds, as a call into C code does; nothing else of this process runs meanwhile."""
    ctypes.PyDLL(None).usleep(3_000_000)


def fills_its_disk(state):
    """A disk of 64 KiB, as far as this process can see."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    with (state / "full").open("wb") as file:
        file.write(b"x" * (1 << 20))


def leaks_descriptors(_):
    """Until there are none left."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        _leaked.append(os.open("/dev/null", os.O_RDONLY))


def eats_memory(_):
    """More than it may have."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    _leaked.append(bytearray(2 << 30))


def dies_of_hunger(_):
    """A defect that ends the process when memory is short."""
    try:
        eats_memory(_)
    except MemoryError:
        sys.stderr.write("Traceback (most recent call last):\nMemoryError\n")
        sys.stderr.flush()
        os._exit(1)


def starves_once(state):
    """Needs up to 2 GiB the first time, page by page: where less may be had, the kernel ends it."""
    if (state / "starved").exists():
        return
    (state / "starved").touch()
    while len(_leaked) < 256:
        _leaked.append(b"\1" * (8 << 20))


def starves_always(_):
    """The same each time."""
    while len(_leaked) < 256:
        _leaked.append(b"\1" * (8 << 20))


def changes_its_own_files(state):
    """Its code, its environment, its interpreter: whatever of it the next start needs; `changes` says how that went."""
    environment, code = Path(sys.prefix), Path(__file__)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    attempts = {
        "change its code": lambda: code.write_text(f"{code.read_text()}\n# changed\n"),
        "cut off its code": lambda: os.truncate(code.with_name("raw_plugin.py"), 0),
        "remove its code": lambda: code.with_name("keeping_extension.py").unlink(),
        "plant compiled code": lambda: (code.parent / "__pycache__" / "planted.pyc").write_bytes(b"planted"),
        "plant a module in its environment": lambda: (packages / "sitecustomize.py").write_text("raise SystemExit(9)"),
        "change the settings of its environment": lambda: (environment / "pyvenv.cfg").write_text("home = /nowhere\n"),
        "move its interpreter away": lambda: Path(sys.executable).rename(environment / "bin" / "gone"),
    }
    told = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            told[name] = "done"
        except OSError as error:
            told[name] = type(error).__name__
    (state / "changes").write_text(json.dumps(told))
