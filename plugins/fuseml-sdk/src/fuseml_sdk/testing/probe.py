"""`python -m fuseml_sdk.testing.probe`: what importing a plugin does, seen by an audit hook in a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Audit events by what they mean; https://docs.python.org/3/library/audit_events.html
_EVENTS = {
    "socket.connect": "network", "socket.getaddrinfo": "network", "socket.gethostbyname": "network",
    "socket.sendto": "network", "urllib.Request": "network",
    "subprocess.Popen": "process", "os.system": "process", "os.fork": "process", "os.forkpty": "process",
    "os.posix_spawn": "process", "os.exec": "process", "pty.spawn": "process", "_thread.start_new_thread": "thread",
    "os.mkdir": "write", "os.rename": "write", "os.remove": "write", "os.rmdir": "write", "os.symlink": "write",
    "os.link": "write", "os.truncate": "write", "os.chmod": "write",
}
_TIMEOUT = 120.0


@dataclass(frozen=True)
class Import:
    """What importing a plugin did.

    Attributes:
        seconds: Of processor time, without the SDK's own.
        done: What the audit hook saw: kind (network, process, thread, write) and what.
        printed: What was written to standard output and error.
        failure: Why it could not be imported; empty if it could.
    """

    seconds: float
    done: tuple[tuple[str, str], ...]
    printed: str
    failure: str

    def of(self, kind: str) -> list[str]:
        """What was done of a kind."""
        return [what for each, what in self.done if each == kind]


def observe(plugin: str, environment: dict[str, str]) -> Import:
    """Import a plugin in a fresh interpreter, and make an object if it is a class.

    Args:
        plugin: `module:attribute`.
        environment: Variables of that interpreter.
    """
    with tempfile.TemporaryDirectory(prefix="fuseml-probe-") as folder:
        report = Path(folder) / "report.json"
        quiet = {**environment, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run([sys.executable, "-m", "fuseml_sdk.testing.probe", plugin, str(report)], env=quiet,
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False,
                                  cwd=folder)
        except subprocess.TimeoutExpired:
            return Import(_TIMEOUT, (), "", f"it took longer than {_TIMEOUT:g} s")
        printed = (done.stdout + done.stderr).decode(errors="replace")
        if not report.exists():
            return Import(0.0, (), printed, f"the interpreter ended with exit code {done.returncode}")
        found = json.loads(report.read_text())
        return Import(found["seconds"], tuple((kind, what) for kind, what in found["done"]), printed, found["failure"])


def meanings(event: str, arguments: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    """What an audit event means; nothing for most."""
    if event == "open" and len(arguments) > 2 and isinstance(arguments[0], str | bytes):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            yield "write", os.fsdecode(arguments[0])
    elif event in _EVENTS:
        if event == "socket.connect" and isinstance(arguments[1], str | bytes):
            return  # a Unix socket is no network
        shown = [a for a in arguments if isinstance(a, str | bytes | int | tuple | list)]
        text = os.fsdecode(shown[0]) if shown and isinstance(shown[0], str | bytes) else str(shown[:2])
        yield _EVENTS[event], text if _EVENTS[event] == "write" else f"{event} {text}"[:300]


def main(arguments: list[str]) -> int:
    """Import the plugin and write what was seen. Returns the exit code."""
    from fuseml_sdk import contract, loading

    plugin, report = arguments
    contract.operations()
    done: list[tuple[str, str]] = []
    listening = True

    def hear(event: str, given: tuple[Any, ...]) -> None:
        if listening:
            done.extend(meanings(event, given))

    sys.addaudithook(hear)
    failure, begun = "", time.process_time()
    try:
        loading.load(plugin)
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begun
    listening = False
    done += [("thread", thread.name) for thread in threading.enumerate() if thread is not threading.main_thread()]
    Path(report).write_text(json.dumps({"seconds": seconds, "done": done, "failure": failure}))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
