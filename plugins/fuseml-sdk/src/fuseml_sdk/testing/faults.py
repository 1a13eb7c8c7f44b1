"""What can befall a plugin, done on purpose: kill9, oom, hang, gil_hog, slow_start, broken_import, full_disk.

The first ones are done to a plugin that runs in a process of its own; the last ones are chosen when it is started.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseml_sdk.errors import Unsupported
from fuseml_sdk.testing.hosts import SubprocessHost
from fuseml_sdk.testing.processes import PluginProcess
from fuseml_sdk.testing.served import ServedPlugin

#: Module that arranges a fault in the plugin's process before it serves.
LAUNCHER = ("-m", "fuseml_sdk.testing.faulty")
#: Variables that it reads.
SLOW_START, BROKEN_IMPORT, GIL_HOG = "FUSEML_FAULT_SLOW_START", "FUSEML_FAULT_IMPORT", "FUSEML_FAULT_GIL"


def kill9(plugin: ServedPlugin) -> None:
    """End the process at once, as the kernel does when memory runs out; nothing can be finished."""
    process = _process(plugin)
    process.kill()
    process.wait()


@contextmanager
def hang(plugin: ServedPlugin) -> Iterator[None]:
    """Let the process stand still inside the block, as on a machine that swaps."""
    process = _process(plugin)
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


@contextmanager
def full_disk(plugin: ServedPlugin, room: int = 64 * 1024) -> Iterator[None]:
    """Let no file that the process writes grow beyond `room` bytes inside the block; needs no special rights.

    Writing more fails with an `OSError`, as on a full disk.
    """
    with _limited(plugin, resource.RLIMIT_FSIZE, room):
        yield


@contextmanager
def oom(plugin: ServedPlugin, room: int = 4 << 20) -> Iterator[None]:
    """Let the process have no more than `room` bytes of memory beyond what it has, inside the block."""
    status = Path(f"/proc/{_process(plugin).pid}/statm")
    pages = int(status.read_text().split()[0])
    with _limited(plugin, resource.RLIMIT_AS, pages * resource.getpagesize() + room):
        yield


def gil_hog(plugin: ServedPlugin) -> None:
    """Let a C call hold the interpreter for as long as :func:`faulty_host` was told; returns at once."""
    _process(plugin).signal(signal.SIGUSR1)


def faulty_host(plugin: str, *, slow_start: float = 0.0, broken_import: str = "", gil_hog: float = 0.0,
                ) -> SubprocessHost:
    """A host that starts a plugin with a fault.

    Args:
        plugin: `module:attribute`.
        slow_start: Seconds that pass before the plugin is imported, after its host may have sent calls.
        broken_import: Module that cannot be imported, whether it is installed or not.
        gil_hog: Seconds for which :func:`gil_hog` holds the interpreter.
    """
    variables = {SLOW_START: str(slow_start), BROKEN_IMPORT: broken_import, GIL_HOG: str(gil_hog)}
    return SubprocessHost(plugin, command=LAUNCHER, environment=variables)


@contextmanager
def _limited(plugin: ServedPlugin, kind: int, limit: int) -> Iterator[None]:
    if not hasattr(resource, "prlimit"):
        raise Unsupported("limits of another process can be set on Linux only")
    process = _process(plugin)
    before = resource.prlimit(process.pid, kind)
    resource.prlimit(process.pid, kind, (limit, before[1]))
    try:
        yield
    finally:
        if process.poll() is None:
            resource.prlimit(process.pid, kind, before)


def _process(plugin: ServedPlugin) -> PluginProcess:
    if plugin.process is None:
        raise Unsupported(f"the host {plugin.host} has no process of the plugin's own",
                          hint="Serve it with `served_plugin` or the host `subprocess`.")
    return plugin.process
