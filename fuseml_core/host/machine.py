"""What the operating system of this machine can do to confine a process."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

_CREATE_RULESET, _ASK_VERSION = 444, 1
_GET_SECCOMP = 21
#: The newest version whose rights the launcher knows; a newer kernel does what this one does.
NEWEST_ABI = 7


@dataclass(frozen=True)
class Machine:
    """What can be put in force here.

    Attributes:
        linux: Whether it is Linux at all.
        landlock: Version of Landlock's interface; 0 when there is none.
        landlock_why: Why there is none.
        architecture: Machine name for which system calls can be filtered; empty when they cannot.
        seccomp_why: Why they cannot.
        root: Whether the server may give processes another user.
    """

    linux: bool
    landlock: int
    landlock_why: str
    architecture: str
    seccomp_why: str
    root: bool


@functools.cache
def probe() -> Machine:
    """Ask the kernel, once."""
    if sys.platform != "linux":
        why = f"{platform.system() or sys.platform} has no such thing that this server knows"
        return Machine(False, 0, why, "", why, False)
    landlock, landlock_why = _landlock()
    architecture, seccomp_why = _seccomp()
    return Machine(True, landlock, landlock_why, architecture, seccomp_why, os.geteuid() == 0 and _may_set_users())


def _landlock() -> tuple[int, str]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION))
    if version >= 1:
        return min(version, NEWEST_ABI), ""
    why = os.strerror(ctypes.get_errno())
    return 0, f"this kernel ({platform.release()}) has no Landlock, or does not allow it ({why}); Linux 5.13 brought it"


def _seccomp() -> tuple[str, str]:
    name = platform.machine()
    if name not in ("x86_64", "aarch64") or sys.maxsize < 2**32:
        return "", f"system calls of the architecture {name} are not known to this server"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) < 0 or not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return "", "this kernel cannot filter system calls"
    return name, ""


def _may_set_users() -> bool:
    """CAP_CHOWN (0), CAP_SETGID (6) and CAP_SETUID (7), which a container may have taken from root; capabilities(7)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return all(held >> number & 1 for number in (0, 6, 7))
    return False
