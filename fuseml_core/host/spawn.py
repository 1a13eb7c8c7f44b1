"""Starts a plugin process with exactly the file descriptors it needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Mapping, Sequence

_SIGNALS_SET_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)


def spawn(command: Sequence[str], environment: Mapping[str, str], *, stdin: int, output: int, listener: int,
          lifeline: int) -> int:
    """Start a process in a process group of its own.

    `posix_spawn` and not a fork: forking a process that has threads is unsafe, and `subprocess` cannot give a child
    chosen descriptor numbers without one.

    Args:
        command: Interpreter as an absolute path, and arguments; nothing secret.
        environment: All variables of the child.
        stdin: Becomes descriptor 0.
        output: Becomes descriptors 1 and 2.
        listener: Becomes descriptor 3.
        lifeline: Becomes descriptor 4.

    Returns:
        The process id, which is also the id of its group.

    Raises:
        OSError: The interpreter cannot be started.
    """
    with contextlib.ExitStack() as stack:
        # Copies with high numbers, so that no dup2 below overwrites what a later one needs.
        high = [stack.enter_context(_copy(descriptor)) for descriptor in (stdin, output, output, listener, lifeline)]
        actions = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(high)]
        return os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions, setpgroup=0,
                              setsigmask=[], setsigdef=_SIGNALS_SET_BACK)


@contextlib.contextmanager
def _copy(descriptor: int) -> Iterator[int]:
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)
    try:
        yield copy
    finally:
        os.close(copy)
