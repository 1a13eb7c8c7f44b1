"""The status of a workload as its supervisor writes it."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from fuseml_process.directories import FINAL, WorkDirectory, write_json

_RESERVE = 64 << 10
_PATIENCE, _PAUSE = 300.0, 0.5


class StatusFile:
    """Replaces `status.json` at each change and wakes the agent.

    A status that cannot be written would let the work count as lost and be done again, so room for the last one is
    reserved before the work begins.

    Args:
        directory: Of the workload.
        notify: Path of the agent's datagram socket; nobody need listen.
        submitted_at: Seconds since the epoch.
    """

    def __init__(self, directory: WorkDirectory, notify: str, submitted_at: float) -> None:
        self._directory, self._notify = directory, notify
        self.values: dict[str, Any] = {"name": directory.path.name, "state": "pending", "submitted_at": submitted_at,
                                       "warnings": [], "timings": {}}

    def update(self, **changes: Any) -> None:
        """Set fields of the status and publish it; a final state is on disk before this returns."""
        self.values.update(changes)
        final = self.values["state"] in FINAL
        if final:
            self.values.setdefault("ended_at", time.time())
            self.values["phase"] = ""
        write_json(self._directory.status, self.values, durable=final)
        wake(self._notify, self._directory.path.name)

    def reserve(self) -> None:
        """Take room for the final status from the disk, in blocks that were really written.

        Raises:
            OSError: There is not even that much.
        """
        with self._directory.reserve.open("wb", buffering=0) as file:
            file.write(os.urandom(_RESERVE))  # file systems that compress keep no room for zeros

    def finish(self, **changes: Any) -> None:
        """Publish a final state, from the reserve if the disk is full; waits for room if somebody else took that.

        Raises:
            OSError: There was no room for five minutes.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self.update(**changes)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                if not self._released():
                    time.sleep(_PAUSE)
        self._released()

    def _released(self) -> bool:
        try:
            self._directory.reserve.unlink()
        except FileNotFoundError:
            return False
        return True


def wake(path: str, name: str) -> None:
    """Tell the agent that a workload has changed; it looks by itself before long if this fails."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(name.encode(), path)
    except OSError:
        return
