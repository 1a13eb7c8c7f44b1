"""A plugin in a process of its own, started as a host starts it: socket on descriptor 3, lifeline on 4."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_STOP_SECONDS = 20.0
_SET_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
#: Nothing else of the developer's machine reaches a plugin.
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
           "GIT_SSL_CAINFO", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
           "UV_DEFAULT_INDEX", "UV_INDEX", "UV_SYSTEM_CERTS", "UV_OFFLINE", "UV_CACHE_DIR", "PIP_INDEX_URL",
           "FUSEML_OFFLINE", "FUSEML_INDEX_URL", "FUSEML_PYTHONS")


class PluginProcess:
    """A started process; like `subprocess.Popen` as far as tests need it.

    Args:
        command: Interpreter as an absolute path, and arguments.
        environment: All variables.
        configuration: Text on standard input.
        log: Open file for standard output and error.
        listener: Listening socket that becomes descriptor 3; this process keeps its own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], configuration: bytes, log: int,
                 listener: socket.socket) -> None:
        self._lock = threading.Lock()
        self.returncode: int | None = None
        read, self._lifeline = os.pipe()
        source, feed = os.pipe()
        try:
            with contextlib.ExitStack() as stack:
                wanted = (source, log, log, listener.fileno(), read)
                high = [stack.enter_context(_copy(descriptor)) for descriptor in wanted]
                actions = [(os.POSIX_SPAWN_DUP2, number, target) for target, number in enumerate(high)]
                self.pid = os.posix_spawn(command[0], list(command), dict(environment), file_actions=actions,
                                          setpgroup=0, setsigmask=[], setsigdef=_SET_BACK)
        except OSError:
            os.close(self._lifeline)
            os.close(feed)
            raise
        finally:
            os.close(read)
            os.close(source)
        threading.Thread(target=_feed, args=(feed, configuration), daemon=True).start()

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("the plugin", timeout)
            time.sleep(0.01)
        return code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end, as a host does."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def let_go(self) -> None:
        """Close the lifeline, as the death of the host does."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def stop(self) -> None:
        """End the process and whatever is left of its group."""
        self.terminate()
        try:
            self.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        self.let_go()
        for pid in group_members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def group_members(group: int) -> list[int]:
    """Processes that belong to a process group and run."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [int(pid) for pid, owner, state in rows if int(owner) == group and not state.startswith("Z")]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(owner) == group and state != "Z":
                    found.append(int(entry.name))
    return found


def clean_environment(home: Path) -> dict[str, str]:
    """The variables of a plugin: a few that name places and networks, and what this interpreter can import.

    Args:
        home: Becomes HOME and holds temporary files.
    """
    scratch = home / "tmp"
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    chosen = {name: os.environ[name] for name in _PASSED if name in os.environ}
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**chosen, "HOME": str(home), "TMPDIR": str(scratch), "PYTHONPATH": paths}


def _feed(descriptor: int, text: bytes) -> None:
    with contextlib.suppress(OSError), os.fdopen(descriptor, "wb") as stream:
        stream.write(text)


@contextlib.contextmanager
def _copy(descriptor: int) -> Iterator[int]:
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16)
    try:
        yield copy
    finally:
        os.close(copy)
