"""The lifeline: a pipe whose other end the host holds. When the host is gone, so is this process."""

from __future__ import annotations

import os
import signal
import threading


def watch(descriptor: int) -> None:
    """End this process and its process group as soon as the pipe reports its end.

    Args:
        descriptor: Read end of the pipe; it is made uninheritable, so that children do not keep it open.
    """
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_wait, args=(descriptor,), name="fuseml-lifeline", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 512):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(0)
