"""What is known about the running server: `run/server.json`, and the lock that says whether it is true."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fuseml_core.launcher.locks import holder
from fuseml_core.settings import Settings
from fuseml_sdk.durable import write_durably

#: Names of the two server processes, in the order in which they start.
CONTROL, DATA = "control", "data"
#: Tells the launcher to start once more what it has given up.
REVIVE = signal.SIGUSR1


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server as its launcher last described it.

    Attributes:
        state: `starting`, `ready`, or `degraded` when a process is being restarted or has been given up.
        version: Version of FuseML that runs.
        port: TCP port of the data process on 127.0.0.1.
        base_url: URL of the data process.
        started_at: Seconds since the epoch.
        pids: Process ids of `launcher`, `control` and `data`; a process that is not there is missing.
        problems: Why a process is not there, by its name.
        home: FUSEML_HOME.
        given_up: Processes that died too often and are not started any more.
        safe_mode: Nothing of installed extensions is loaded.
    """

    state: str
    version: str
    port: int
    base_url: str
    started_at: float
    pids: dict[str, int]
    home: str
    problems: dict[str, str] = field(default_factory=dict)
    given_up: list[str] = field(default_factory=list)
    safe_mode: bool = False


def lock_path(settings: Settings, name: str) -> Path:
    """Lock file that process `name` (`server` for the launcher) holds while it lives."""
    return settings.path("run", f"{name}.lock")


def status(settings: Settings) -> ServerState | None:
    """Return the state of the server of this FUSEML_HOME; None when no launcher runs.

    The launcher's lock decides: files and process ids of a server that was killed mean nothing.
    """
    launcher = holder(lock_path(settings, "server"))
    if launcher is None:
        return None
    known = read_state(settings.state_file)
    if known is None or known.pids.get("launcher") != launcher:
        return ServerState(state="starting", version="", port=settings.port, base_url="", started_at=0.0,
                           pids={"launcher": launcher}, home=str(settings.home))
    return known


def read_state(path: Path) -> ServerState | None:
    """Read `server.json`; None when it is missing or not usable."""
    try:
        return ServerState(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(path: Path, state: ServerState) -> None:
    """Write `server.json` atomically."""
    write_json(path, asdict(state))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a JSON file atomically and durably, readable by its owner only."""
    write_durably(path, json.dumps(value, indent=2).encode())
