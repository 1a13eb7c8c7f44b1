"""Starting a server in the background."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fuseml_core.domain.errors import BY_CODE, Conflict, Failed
from fuseml_core.launcher.directories import prepare_directories
from fuseml_core.launcher.logs import last_lines
from fuseml_core.launcher.state import REVIVE, ServerState, status
from fuseml_core.settings import Settings

COMMAND = (sys.executable, "-m", "fuseml_core.launcher")
POLL = 0.05


def start(settings: Settings, timeout: float = 60.0, *, command: Sequence[str] = COMMAND) -> ServerState:
    """Start the server of FUSEML_HOME in the background and wait until it answers.

    A server that runs already, or that somebody else is just starting, is as good as a new one. Of one that has given
    up a process that died again and again, that process is started once more.

    Args:
        settings: As read from the environment, which the server inherits.
        timeout: Seconds until it must be ready.
        command: The launcher program.

    Raises:
        Conflict: The port is taken.
        Refused: A directory cannot be used.
        Failed: It did not start, or a process of it dies again; the message has the last lines of the log.
    """
    until = time.monotonic() + timeout
    found = status(settings)
    if found is not None and found.given_up:
        os.kill(found.pids["launcher"], REVIVE)
        _await_revival(settings, until)
    elif found is None:
        prepare_directories(settings)
        try:
            return _launch(settings, command, until)
        except Conflict as error:
            if not error.details.get("running"):
                raise
    return _await(settings, until)


def _launch(settings: Settings, command: Sequence[str], until: float) -> ServerState:
    reader, writer = os.pipe()
    log = settings.path("logs", "launcher.log")
    try:
        with log.open("ab") as output:
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
            environment |= {"FUSEML_NO_EXTENSIONS": "1"} if settings.no_extensions else {}
            process = subprocess.Popen([*command, "--report-fd", str(writer)], stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=output, pass_fds=[writer], start_new_session=True,
                                       env={**environment, "FUSEML_HOME": str(settings.home)}, cwd=settings.home)
        os.close(writer)
        writer = -1
        report = _read_report(reader, until)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if report is None and process.poll() is None:
        process.terminate()
        raise Failed("The server was not ready in time", hint=_tail(settings))
    if report is None:
        raise Failed(f"The server ended while starting, with code {process.wait()}", hint=_tail(settings))
    process.returncode = 0  # it lives on by itself: nobody here waits for it, and that is meant
    return _understand(report)


def _read_report(reader: int, until: float) -> dict[str, Any] | None:
    """Read the one line that the launcher writes: its state, or what went wrong. None if nothing comes."""
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(reader, 65536) if ready else b""
        if not piece:
            return None
        data += piece
    report: dict[str, Any] = json.loads(data)
    return report


def _understand(report: dict[str, Any]) -> ServerState:
    if "state" in report:
        return ServerState(**report["state"])
    problem = report["error"]
    raise BY_CODE[problem["code"]](problem["message"], hint=problem["hint"], details=problem["details"])


def _await(settings: Settings, until: float) -> ServerState:
    """Wait for a server that another process started, or whose processes are being started again."""
    while time.monotonic() < until:
        found = status(settings)
        if found is None:
            raise Failed("The server ended while starting", hint=_tail(settings))
        if found.given_up:
            raise Failed("; ".join(found.problems[name] for name in found.given_up), hint=_tail(settings))
        if found.state == "ready":
            return found
        time.sleep(POLL)
    raise Failed("The server was not ready in time", hint=_tail(settings))


def _await_revival(settings: Settings, until: float) -> None:
    """Wait until the launcher has begun to start again what it had given up."""
    while (found := status(settings)) is not None and found.given_up and time.monotonic() < until:
        time.sleep(POLL)


def _tail(settings: Settings) -> str:
    lines = [line for name in ("launcher", "control", "data")
             for line in last_lines(settings.path("logs", f"{name}.log"), 10)]
    return "\n".join(["The last lines of its logs:", *lines])


def report_state(descriptor: int, state: ServerState) -> None:
    """Tell the process that started us that we are ready."""
    _report(descriptor, {"state": asdict(state)})


def report_error(descriptor: int, code: str, message: str, hint: str, details: dict[str, Any]) -> None:
    """Tell the process that started us what went wrong."""
    _report(descriptor, {"error": {"code": code, "message": message, "hint": hint, "details": details}})


def _report(descriptor: int, value: dict[str, Any]) -> None:
    try:
        os.write(descriptor, json.dumps(value).encode() + b"\n")
        os.close(descriptor)
    except OSError:
        return  # whoever started us did not wait
