"""The status of a workload as its supervisor writes it."""

from __future__ import annotations

import socket
import time
from typing import Any

from fuseml_process.directories import FINAL, WorkDirectory, write_json


class StatusFile:
    """Replaces `status.json` at each change and wakes the agent.

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


def wake(path: str, name: str) -> None:
    """Tell the agent that a workload has changed; it looks by itself before long if this fails."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(name.encode(), path)
    except OSError:
        return
