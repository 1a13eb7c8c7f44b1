"""What can befall a plugin, done on purpose: kill9, oom, hang, gil_hog, slow_start, broken_import, full_disk.

The first ones are done to a plugin that runs in a process of its own; the last ones are chosen when it is started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from fuseml_sdk.errors import Unsupported
from fuseml_sdk.testing.hosts import Host, SubprocessHost
from fuseml_sdk.testing.processes import PluginProcess
from fuseml_sdk.testing.served import ServedPlugin

#: Module that arranges a fault in the plugin's process before it serves.
LAUNCHER = ("-m", "fuseml_sdk.testing.faulty")
#: Variables that it reads.
SLOW_START, BROKEN_IMPORT, GIL_HOG = "FUSEML_FAULT_SLOW_START", "FUSEML_FAULT_IMPORT", "FUSEML_FAULT_GIL"
SMALL_DISK = "FUSEML_FAULT_DISK"


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
    """Let the process write about `room` bytes and no more inside the block.

    A state directory on a disk of its own (`faulty_host(…, disk=…)`) is filled: writing there fails with ENOSPC.
    Elsewhere no file grows beyond a limit, which needs no special rights: writing more fails with EFBIG.
    """
    disk = Path(f"/proc/{_process(plugin).pid}/root{plugin.state}")
    own = disk.is_dir() and disk.stat().st_dev != plugin.state.stat().st_dev
    with ExitStack() as stack:
        if own:
            stack.enter_context(_filled(disk, room))
        # Twice as much, so that what is full is noticed before the limit.
        stack.enter_context(_limited(plugin, resource.RLIMIT_FSIZE, 2 * room if own else room))
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
                disk: int = 0) -> SubprocessHost:
    """A host that starts a plugin with a fault.

    Args:
        plugin: `module:attribute`.
        slow_start: Seconds that pass before the plugin is imported, after its host may have sent calls.
        broken_import: Module that cannot be imported, whether it is installed or not.
        gil_hog: Seconds for which :func:`gil_hog` holds the interpreter.
        disk: Bytes of a disk of its own for the state directory; see :func:`on_small_disk`.
    """
    variables = {SLOW_START: str(slow_start), BROKEN_IMPORT: broken_import, GIL_HOG: str(gil_hog),
                 SMALL_DISK: str(disk)}
    return SubprocessHost(plugin, command=LAUNCHER, environment=variables)


def on_small_disk(host: Host, size: int) -> Host:
    """The host, with the state directory on a disk of its own if it starts a process on Linux that may mount one.

    What the plugin writes there is in memory, seen by its process alone, and gone when that ends.

    Args:
        host: Any host.
        size: Bytes of the disk.
    """
    if not isinstance(host, SubprocessHost):
        return host
    return replace(host, command=LAUNCHER, environment={**host.environment, SMALL_DISK: str(size)})


@contextmanager
def _filled(disk: Path, room: int) -> Iterator[None]:
    """Fill a disk up to some bytes inside the block."""
    filler = disk / ".fuseml-filler"
    with filler.open("wb") as stream:
        free = os.statvfs(disk)
        os.posix_fallocate(stream.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # The disk is gone with its process.
            filler.unlink()


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
