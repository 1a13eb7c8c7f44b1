"""The data process as seen from the control process: routing table out, requests in flight in."""

from __future__ import annotations

import threading

import structlog

from fuseml_core.domain.errors import Unavailable
from fuseml_core.launcher.requests import ask
from fuseml_core.launcher.state import write_json
from fuseml_core.settings import Settings

log = structlog.get_logger(__name__)

TIMEOUT = 5.0


class DataProcess:
    """Implements the port `Gateway`.

    The table is a file first: a data process that starts later reads it, so routes survive either process.

    Args:
        settings: Where file and socket are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._version = 0
        self._last: dict[str, dict[str, str | None]] | None = None

    def publish(self, services: dict[str, dict[str, str | None]]) -> None:
        """Put a routing table into force; see `Gateway`."""
        with self._lock:
            self._version += 1
            table = {"version": self._version, "services": services}
            if services != self._last:
                write_json(self._settings.path("run", "routes.json"), table)
                self._last = services
            try:
                ask(self._settings.data_socket, "PUT", "/internal/routes", table, timeout=TIMEOUT)
            except Unavailable as error:
                # It reads the file when it starts.
                log.info("the data process does not answer; routes lie in the file", reason=error.message)

    def in_flight(self, workload: str) -> int:
        """How many requests an instance is answering; see `Gateway`."""
        try:
            answer = ask(self._settings.data_socket, "GET", f"/internal/instances/{workload}", timeout=TIMEOUT)
        except Unavailable:
            return 0
        return int(answer["in_flight"])
