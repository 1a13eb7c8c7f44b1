"""The system calls that plugin processes are refused: a program for seccomp(2).

It stands beside Landlock, which knows files, TCP ports, abstract sockets and signals, but neither UDP nor the Unix
sockets that lie in the file system, neither the memory of System V nor who watches a folder, and which an older kernel
does not have.
"""

from __future__ import annotations

import struct

from fuseml_sdk.permissions import Permission

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Numbers by architecture: x86_64, aarch64; None where there is no such call.
_Numbers = tuple[int | None, int | None]
_SOCKET, _SOCKETPAIR, _CLONE, _CLONE3, _OPENAT2 = (41, 198), (53, 199), (56, 220), (435, 435), (437, 437)
#: What looks into or changes other processes, the kernel or the file system's layout, and what would go around this
#: program: io_uring opens sockets by itself, keyrings belong to the user and hold secrets of other programs, and who
#: watches a folder learns the names in it without the right to list it.
_NEVER: dict[str, _Numbers] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kcmp": (312, 272), "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "io_uring_setup": (425, 425),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
}
#: Memory, semaphores and messages of System V: they belong to the user, and have neither a path nor a descriptor.
_SYSTEM_V: dict[str, _Numbers] = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187),
}
#: What may be done to the process itself, which is number 0, and not to others of the same user: which argument has the
#: number, and what the first one says when that is of a process and not of a group or user.
_TO_ITSELF: dict[str, tuple[_Numbers, int, int]] = {
    "prlimit64": ((302, 261), 0, 0), "sched_setparam": ((142, 118), 0, 0), "sched_setscheduler": ((144, 119), 0, 0),
    "sched_setaffinity": ((203, 122), 0, 0), "sched_setattr": ((314, 274), 0, 0), "setpriority": ((141, 140), 1, 0),
    "ioprio_set": ((251, 30), 1, 1),
}
#: What sets the mode of a file: the argument with the mode and, where a mode counts only then, that with the flags.
_MODES: dict[str, tuple[_Numbers, int, int | None]] = {
    "chmod": ((90, None), 1, None), "fchmod": ((91, 52), 1, None), "fchmodat": ((268, 53), 2, None),
    "fchmodat2": ((452, 452), 2, None), "mknod": ((133, None), 1, None), "mknodat": ((259, 33), 2, None),
    "creat": ((85, None), 1, None), "open": ((2, None), 2, 1), "openat": ((257, 56), 3, 2),
}
#: O_CREAT and O_TMPFILE, CLONE_NEW* but for that of clocks, set-user-id (a folder's set-group-id is copied along with
#: what lies in it), types of sockets.
_MAKES, _NAMESPACES, _SET_USER_ID, _STREAM, _SEQPACKET, _TYPE = 0x400040, 0x7E020000, 0o4000, 1, 5, 0xF
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_SET, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _EACCES, _ENOSYS = 1, 13, 38
_NUMBER, _ARCHITECTURE = 0, 4
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
    refused = {**_NEVER, **({} if "shared-memory" in forms else _SYSTEM_V)}
    for numbers in refused.values():
        out += _on(numbers[column], [_step(_RETURN, _ERRNO | _EPERM)])
    # These keep what they are asked for in memory, where no filter sees it; callers go on with the older calls.
    for numbers in (_CLONE3, _OPENAT2):
        out += _on(numbers[column], [_step(_RETURN, _ERRNO | _ENOSYS)])
    out += _on(_CLONE[column], [_argument(0), *_without(_NAMESPACES), _step(_RETURN, _ALLOW)])
    for numbers, argument, kind in _TO_ITSELF.values():
        out += _on(numbers[column], [_argument(argument), *_only(0), _argument(0),
                                     *_only(kind), _step(_RETURN, _ALLOW)])
    for numbers, mode, flags in _MODES.values():
        makes = [] if flags is None else [_argument(flags), _step(_JUMP_SET, _MAKES, 1, 0), _step(_RETURN, _ALLOW)]
        out += _on(numbers[column], [*makes, _argument(mode), *_without(_SET_USER_ID), _step(_RETURN, _ALLOW)])
    if "unix-sockets" not in forms:
        out += _on(_SOCKETPAIR[column], _pairs())
    return b"".join([*out, _step(_JUMP_EQUAL, _SOCKET[column], 1, 0), _step(_RETURN, _ALLOW), *_families(forms)])


def _on(number: int | None, steps: list[bytes]) -> list[bytes]:
    """Steps for one system call, which answer; the others pass over them."""
    return [] if number is None else [_step(_JUMP_EQUAL, number, 0, len(steps)), *steps]


def _argument(number: int) -> bytes:
    """Load the lower half of an argument; flags, modes and process ids are no longer."""
    return _step(_LOAD, 16 + 8 * number)


def _only(value: int) -> list[bytes]:
    return [_step(_JUMP_EQUAL, value, 1, 0), _step(_RETURN, _ERRNO | _EPERM)]


def _without(bits: int) -> list[bytes]:
    return [_step(_JUMP_SET, bits, 0, 1), _step(_RETURN, _ERRNO | _EPERM)]


def _pairs() -> list[bytes]:
    """One end of a pair of datagram sockets can send to whichever socket it likes; a stream has the other end alone."""
    return [_argument(1), _step(_AND, _TYPE), _step(_JUMP_EQUAL, _STREAM, 2, 0), _step(_JUMP_EQUAL, _SEQPACKET, 1, 0),
            _step(_RETURN, _ERRNO | _EACCES), _step(_RETURN, _ALLOW)]


def _families(forms: set[str]) -> list[bytes]:
    """What follows for `socket`: which families of addresses it may be asked for, and which protocols of them."""
    out = [_argument(0)]
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
    out = [_argument(2)]
    for number in allowed:
        out += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return [*out, _step(_RETURN, _ERRNO | _EACCES)]


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
