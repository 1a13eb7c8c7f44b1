"""Starting the workload's process: fork, a few system calls, exec."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from fuseml_process.shim.failures import StepFailed
from fuseml_process.shim.processes import die_with_parent

_FIRST_LISTENING = 3


class Command(NamedTuple):
    """What to execute: arguments, environment, working directory."""

    arguments: list[str]
    variables: Mapping[str, str]
    directory: str


def spawn(command: Command, output: int, listening: int | None = None) -> int:
    """Start a process in a session of its own and return its id.

    Args:
        command: What to execute.
        output: Descriptor for standard output and standard error; standard input is empty.
        listening: Listening socket, passed as descriptor 3 as systemd does (LISTEN_FDS).

    Raises:
        StepFailed: The program cannot be executed.
    """
    program = _locate(command)
    reader, writer = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(command, program, supervisor, output, listening, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        problem = stream.read().decode(errors="replace")
    if problem:
        os.waitpid(pid, 0)
        raise StepFailed("Command", f"{command.arguments[0]!r} could not be executed: {problem}")
    return pid


def _locate(command: Command) -> str:
    name = command.arguments[0]
    if "/" in name:
        return name
    for folder in command.variables.get("PATH", "").split(os.pathsep):
        candidate = Path(folder, name)
        if folder and os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate)
    raise StepFailed("Command", f"the program {name!r} is on no folder of PATH in the runnable's environment; "
                     "add the distribution that brings it to the lock, or correct the command")


def _become(command: Command, program: str, supervisor: int, output: int, listening: int | None,
            report: int) -> NoReturn:
    """Everything between fork and exec; never returns."""
    try:
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 100)
        os.setsid()
        die_with_parent()
        if os.getppid() != supervisor:
            os._exit(1)
        _reset_signals()
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(command.directory)
        variables = dict(command.variables)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        output = fcntl.fcntl(output, fcntl.F_DUPFD_CLOEXEC, 100)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if listening is not None:
            listening = fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 100)
            os.dup2(listening, _FIRST_LISTENING)
            variables |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        _prefer_as_victim()
        os.execve(program, command.arguments, variables)  # noqa: S606 - the point of this module
    except BaseException as error:
        os.write(report, str(getattr(error, "strerror", None) or error).encode()[:500])
    os._exit(127)


def _reset_signals() -> None:
    """Python ignores SIGPIPE, and ignored signals stay ignored across exec."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _prefer_as_victim() -> None:
    """When the machine runs out of memory, the kernel shall take a workload and not the server."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return
