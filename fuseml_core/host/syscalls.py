"""The system calls that plugin processes are refused: a program for seccomp(2).

It stands beside Landlock, which knows files, TCP ports, abstract sockets and signals, but neither UDP nor the Unix
sockets that lie in the file system, and which an older kernel does not have.
"""

from __future__ import annotations

import struct

from fuseml_sdk.permissions import Permission

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Numbers by architecture: x86_64, aarch64.
_SOCKET, _PRLIMIT = (41, 198), (302, 261)
#: What looks into or changes other processes, the kernel or the file system's layout, and what would go around this
#: program: io_uring opens sockets by itself, keyrings belong to the user and hold secrets of other programs.
_NEVER = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "io_uring_setup": (425, 425),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
}
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_NUMBER, _ARCHITECTURE, _FIRST, _THIRD = 0, 4, 16, 32
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_ANY, _TCP, _UDP = 0, 6, 17
_X32 = 0x40000000


def program(architecture: str, permissions: tuple[Permission, ...]) -> bytes:
    """The filter of a component.

    Args:
        architecture: `x86_64` or `aarch64`.
        permissions: What its extension declares.

    Returns:
        Instructions of classic BPF, 8 bytes each.
    """
    column = 0 if architecture == "x86_64" else 1
    forms = {permission.kind.form for permission in permissions}
    out = [
        _step(_LOAD, _ARCHITECTURE), _step(_JUMP_EQUAL, _AUDIT[architecture], 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER), _step(_JUMP_GREATER, _X32, 0, 1), _step(_RETURN, _ERRNO | _ENOSYS),
    ]
    for numbers in _NEVER.values():
        out += [_step(_JUMP_EQUAL, numbers[column], 0, 1), _step(_RETURN, _ERRNO | _EPERM)]
    # The limits of another process of the same user are not to be touched; 0 means the process itself.
    out += [_step(_JUMP_EQUAL, _PRLIMIT[column], 0, 4), _step(_LOAD, _FIRST), _step(_JUMP_EQUAL, 0, 1, 0),
            _step(_RETURN, _ERRNO | _EPERM), _step(_RETURN, _ALLOW)]
    return b"".join([*out, _step(_JUMP_EQUAL, _SOCKET[column], 1, 0), _step(_RETURN, _ALLOW), *_families(forms)])


def _families(forms: set[str]) -> list[bytes]:
    """What follows for `socket`: which families of addresses it may be asked for, and which protocols of them."""
    out = [_step(_LOAD, _FIRST)]
    if "unix-sockets" in forms:
        out += [_step(_JUMP_EQUAL, _UNIX, 0, 1), _step(_RETURN, _ALLOW)]
    # Name resolution asks the kernel for its addresses; other netlink protocols list the sockets of everybody.
    out += [_step(_JUMP_EQUAL, _NETLINK, 0, 4), *_protocols(_ANY)]
    if forms & {"network", "network:PORT", "kubernetes"}:
        for family in (_INET, _INET6):
            allowed = _protocols(_ANY, _TCP, _UDP)
            out += [_step(_JUMP_EQUAL, family, 0, len(allowed)), *allowed]
    return [*out, _step(_RETURN, _ERRNO | _EACCES)]


def _protocols(*allowed: int) -> list[bytes]:
    """Answer by the protocol. Only TCP is held to ports by Landlock: MPTCP and SCTP would go around it."""
    out = [_step(_LOAD, _THIRD)]
    for number in allowed:
        out += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return [*out, _step(_RETURN, _ERRNO | _EACCES)]


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
