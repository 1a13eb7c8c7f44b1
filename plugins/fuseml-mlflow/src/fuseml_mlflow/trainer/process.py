"""Running the entry point: its output passed on, signals forwarded, the end of its output remembered."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Iterator

#: Bytes of output that advice is looked for in.
REMEMBERED = 256 * 1024
#: Seconds to wait for output that background processes of an ended command may still write.
LINGER = 2.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Finished:
    """How the command ended: `code` (negative: by that signal) and the end of what it printed."""

    def __init__(self, code: int, tail: str) -> None:
        self.code = code
        self.tail = tail


def run(line: str, directory: Path, env: dict[str, str]) -> Finished:
    """Run a command by `bash -c`, as MLflow does.

    Args:
        line: Command line.
        directory: Working directory.
        env: All its environment variables.
    """
    process = subprocess.Popen(["bash", "-c", line], cwd=str(directory), env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=True)
    with _forwarding(process):
        tail = _pass_on(process)
        code = process.wait()
    return Finished(code, tail.decode("utf-8", "replace"))


@contextmanager
def _forwarding(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Hand signals on: to all of our process group if we lead it, so that children of the shell get them too."""
    sent = set()

    def forward(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signature of signal handlers
        if number in sent:
            return
        sent.add(number)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), number)
        elif process.poll() is None:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(process: "subprocess.Popen[bytes]") -> bytes:
    """Copy the output to ours as it comes; returns its end."""
    assert process.stdout is not None
    source = process.stdout.fileno()
    tail = b""
    ended: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while ended is None or time.monotonic() - ended < LINGER:
            if selector.select(timeout=0.2):
                chunk = os.read(source, 65536)
                if not chunk:
                    break
                _write(chunk)
                tail = (tail + chunk)[-REMEMBERED:]
            elif ended is None and process.poll() is not None:
                ended = time.monotonic()
    return tail


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data):]
