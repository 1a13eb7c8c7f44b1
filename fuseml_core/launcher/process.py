"""Running an ASGI application as one of the server's two processes."""

from __future__ import annotations

import argparse
import json
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

import uvicorn

from fuseml_core.gateway.asgi import ASGIApp
from fuseml_core.launcher.lifeline import Lifeline
from fuseml_core.launcher.locks import ProcessLock
from fuseml_core.launcher.state import lock_path
from fuseml_core.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Seconds a process waits for its predecessor, which lost its launcher, to leave.
PREDECESSOR_TIMEOUT = 30.0
#: Seconds that open requests get at an orderly exit.
GRACE = 5


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors inherited from the launcher; -1 for those that were not given."""

    lifeline: int
    tcp: int
    unix: int


class FactFormatter(logging.Formatter):
    """Appends the facts of a record (`extra`) to its line as `key=value`, values quoted where they need it."""

    _own = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of a record without its traceback."""
        facts = {k: v for k, v in vars(record).items() if k not in self._own and not k.startswith("_")}
        pairs = (f"{key}={_quoted(str(value))}" for key, value in facts.items())
        return " ".join([super().formatMessage(record), *pairs])


def _quoted(value: str) -> str:
    if value and value.isprintable() and not set(value) & set(' ="'):
        return value
    # A value may quote what a plugin wrote: no escape sequence, and no other line break than "\n", stays what it is.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(value, ensure_ascii=False))


class WatchedServer(uvicorn.Server):
    """Uvicorn that says when it is ready and leaves when the launcher is gone."""

    def __init__(self, config: uvicorn.Config, lifeline: Lifeline) -> None:
        super().__init__(config)
        self._lifeline = lifeline

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the launcher."""
        self._lifeline.watch(self._leave)
        await super().startup(sockets=sockets)
        self._lifeline.say_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Leave in order at a signal; uvicorn's own handler would end the process by that signal afterwards."""
        self.should_exit = True

    def _leave(self) -> None:
        self.should_exit = True


def read_descriptors(program: str, arguments: Sequence[str] | None) -> Descriptors:
    """Read the command line of a server process."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description="Started by the launcher.")
    for name in ("lifeline", "tcp", "unix"):
        parser.add_argument(f"--{name}-fd", type=int, default=-1)
    given = parser.parse_args(arguments)
    return Descriptors(given.lifeline_fd, given.tcp_fd, given.unix_fd)


def configure_logging(settings: Settings) -> None:
    """Write log lines to standard output, where the launcher picks them up: a sentence, then facts as key=value."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(FactFormatter(LOG_FORMAT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # Its start-up lines and one line for each migration context are of no use to anybody.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)


def serve(name: str, app: ASGIApp, sockets: list[socket.socket], descriptors: Descriptors,
          settings: Settings) -> None:
    """Serve an application until a signal comes or the launcher is gone. Unfinished requests get `GRACE` seconds.

    Args:
        name: `control` or `data`.
        app: The application.
        sockets: Listening sockets.
        descriptors: What was inherited.
        settings: For log level and paths.
    """
    lifeline = Lifeline(descriptors.lifeline, settings.path("logs", f"{name}.log"))
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="on",
                            timeout_graceful_shutdown=GRACE, timeout_keep_alive=75, ws="none",
                            proxy_headers=False)
    WatchedServer(config, lifeline).run(sockets=sockets)


def take_place(name: str, settings: Settings) -> ProcessLock:
    """Wait until no other process of this name works in FUSEML_HOME, and take its place.

    Raises:
        Conflict: The other process does not leave.
    """
    lock = ProcessLock(lock_path(settings, name))
    lock.acquire(PREDECESSOR_TIMEOUT)
    return lock
