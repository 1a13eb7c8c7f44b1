"""Run between the spawn of a plugin process and its interpreter: confine this process, then become that program.

It is a script of the standard library alone, started by the server's own interpreter with `-I -S`, so that no line of
an extension runs before the confinement is in force, and so that it costs a few milliseconds. What it is told to put
in force it puts in force, or it ends: what a machine cannot do is decided, and reported, by the host.

Arguments, in this order of effect whatever their order is: `group=FOLDER` (of a control group, to be joined),
`umask=OCTAL`, `limit=NUMBER:VALUE` (setrlimit), `oom-score=N` (how readily the kernel ends it when memory is short),
`drop-capabilities`, `user=UID:GID,GID…`, `read=PATH`, `write=PATH`, `device=PATH`, `connect=PORT`,
`landlock=ABI:FLAGS` (`n` TCP, `s` scopes), `seccomp=HEX` (a BPF program), `--`, then the command.
See landlock(7), seccomp(2), prctl(2), capabilities(7), proc_pid_oom_score_adj(5).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys

_NO_NEW_PRIVS, _SET_SECCOMP, _CAPBSET_DROP, _CAP_AMBIENT = 38, 22, 24, 47
_CREATE, _ADD, _RESTRICT, _CLOSE_RANGE = 444, 445, 446, 436
#: Access rights of Landlock, by bit; a right that an ABI does not know is not handled.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_BIND_TCP, _CONNECT_TCP = 1, 2
#: Exit code for a confinement that could not be put in force.
REFUSED = 125

Told = list[tuple[str, str]]

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True)
if _LINUX:
    _libc.syscall.restype = ctypes.c_long
    _libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def main(arguments: list[str]) -> int:
    """Confine this process and become the command after `--`."""
    split = arguments.index("--")
    told = [(name, value) for name, _, value in (argument.partition("=") for argument in arguments[:split])]
    command = arguments[split + 1:]
    try:
        for folder in _every(told, "group"):
            with open(f"{folder}/cgroup.procs", "w") as file:  # noqa: PTH123
                file.write("0")
        _limits(told)
        for value in _every(told, "oom-score"):
            with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123  # pathlib costs milliseconds here
                file.write(value)
        if _LINUX:
            # Descriptors beyond those of the serve runtime are nobody's business; kernels before 5.9 cannot do it.
            _libc.syscall(_CLOSE_RANGE, ctypes.c_uint(5), ctypes.c_uint(0xFFFFFFFF), 0)
            _prctl(_NO_NEW_PRIVS, 1)
        ruleset = _landlock_rules(told)
        _identity(told)
        if ruleset is not None:
            _check(_libc.syscall(_RESTRICT, ruleset, 0), "landlock_restrict_self")
            os.close(ruleset)
        for value in _every(told, "seccomp"):
            _seccomp(bytes.fromhex(value))
        os.execve(command[0], command, os.environ)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"fuseml: the plugin process was not started, because it could not be confined: {error}\n")
    return REFUSED


def _every(told: Told, name: str) -> list[str]:
    return [value for key, value in told if key == name]


def _limits(told: Told) -> None:
    for value in _every(told, "umask"):
        os.umask(int(value, 8))
    for value in _every(told, "limit"):
        number, wanted = (int(part) for part in value.split(":"))
        hard = resource.getrlimit(number)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(number, (most, most))


def _identity(told: Told) -> None:
    """Become a user of its own, or at least one without any right of root's."""
    if ("drop-capabilities", "") in told:
        for number in range(64):
            if _libc.prctl(_CAPBSET_DROP, number, 0, 0, 0) and ctypes.get_errno() == errno.EINVAL:
                break
    for value in _every(told, "user"):
        user, _, groups = value.partition(":")
        numbers = [int(group) for group in groups.split(",")]
        os.setgroups(numbers[1:])
        os.setresgid(numbers[0], numbers[0], numbers[0])
        os.setresuid(int(user), int(user), int(user))
    if ("drop-capabilities", "") in told:
        # Version 3 of the header; all sets empty, so that execve gives none back either (the bounding set is empty).
        _prctl(_CAP_AMBIENT, 4)
        header, empty = struct.pack("=Ii", 0x20080522, 0), b"\0" * 24
        _check(_libc.capset(header, empty), "capset")


def _landlock_rules(told: Told) -> int | None:
    """The descriptor of a ruleset; opened before the identity changes, for paths that only the old one can reach."""
    wanted = _every(told, "landlock")
    if not wanted:
        return None
    version, _, flags = wanted[0].partition(":")
    abi = int(version)
    every = _ALL_BY_ABI.get(abi, (1 << 16) - 1)
    fields = [every]
    if abi >= 4:
        fields.append(_BIND_TCP | _CONNECT_TCP if "n" in flags else 0)
    if abi >= 6:
        fields.append(3 if "s" in flags else 0)  # abstract Unix sockets, signals
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _check(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock_create_ruleset")
    for name, rights in (("read", _READ), ("write", every), ("device", _READ_FILE | _WRITE_FILE | _IOCTL)):
        for path in _every(told, name):
            _allow(ruleset, path, rights & every)
    for port in _every(told, "connect"):
        rule = struct.pack("=QQ", _CONNECT_TCP, int(port))
        _check(_libc.syscall(_ADD, ruleset, 2, rule, 0), "landlock_add_rule")
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # What is not there needs no rule; less is allowed, never more.
    try:
        if os.fstat(descriptor).st_mode & 0o170000 != 0o040000:
            rights &= _FOR_FILES  # the other rights are about directories
        rule = struct.pack("=Qi", rights, descriptor)
        _check(_libc.syscall(_ADD, ruleset, 1, rule, 0), f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)


def _seccomp(program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    given = ctypes.create_string_buffer(header, len(header))
    _prctl(_SET_SECCOMP, 2, ctypes.addressof(given))


def _prctl(*arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:5]
    _check(_libc.prctl(*padded), f"prctl {arguments[0]}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
