"""Stopping a server that runs in the background."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fuseml_core.domain.errors import Failed, Refused, Unavailable
from fuseml_core.launcher.locks import holder
from fuseml_core.launcher.requests import ask
from fuseml_core.launcher.starting import start
from fuseml_core.launcher.state import CONTROL, DATA, ServerState, lock_path, status
from fuseml_core.settings import Settings

POLL = 0.05
ACTIVITY_POLL = 0.5
#: Seconds in which a control process that died is started again, usually.
RESTART_TIMEOUT = 15.0


def stop(settings: Settings, *, wait: bool = False, force: bool = False, timeout: float = 120.0) -> bool:
    """Stop the server: services and agents first, then the server's own processes.

    Args:
        settings: Which server.
        wait: Wait until no job runs.
        force: Cancel running jobs; also stop a server that does not answer.
        timeout: Seconds for everything, waiting included.

    Returns:
        False when no server was running and none had left anything behind.

    Raises:
        Refused: Jobs run, and neither `wait` nor `force` is given; or they still ran after `timeout`.
        Unavailable: The control process does not answer, so what runs is not known, and `force` is not given.
        Failed: A process is still there after `timeout`; or the server is stopped, and workloads go on that their
            agents could not end (`left` in the details names them) or that nobody could ask for.
    """
    until = time.monotonic() + timeout
    found = status(settings)
    if found is None:
        _stop_leftovers(settings, until)
        # A server that ended in order has taken its state along; one that was killed may have left workloads behind,
        # also where only an agent of an extension sees them. A server knows how to end them in order.
        if not _left_workloads(settings) and not settings.state_file.exists():
            return False
        found = start(settings, timeout=max(1.0, until - time.monotonic()))
    if not force:
        _require_idle(settings, wait, until)
    left, trouble = _shut_down(settings, force, until)
    _terminate(settings, found, until)
    if trouble and ("status" in trouble.details or _left_workloads(settings)):
        raise Failed(f"The server is stopped, but not in order, so what it ran may go on: {trouble.message}",
                     hint="End it in order: fuseml server start; fuseml server stop --force")
    if left:
        raise Failed(f"The server is stopped, but {_listed(left)}", details={"left": left},
                     hint="End what goes on where its agent runs it; or repair the agent, then: fuseml server start; "
                          "fuseml server stop --force")
    return True


def _listed(left: list[dict[str, str]]) -> str:
    one = len(left) == 1
    named = "; ".join(f"{each['name']} (agent {each['agent']}: {each['reason']})" for each in left[:5])
    return f"{len(left)} workload{' goes' if one else 's go'} on: {named}{'; …' if len(left) > 5 else ''}"


def _left_workloads(settings: Settings) -> bool:
    """Whether supervisors of workloads live; each holds a lock in its directory."""
    return any(holder(path) is not None for path in settings.path("work").glob("*/lock"))


def _require_idle(settings: Settings, wait: bool, until: float) -> None:
    while jobs := _jobs(settings):
        names = ", ".join(jobs[:5]) + (" …" if len(jobs) > 5 else "")
        what = f"{len(jobs)} job{'s run' if len(jobs) > 1 else ' runs'} still: {names}"
        if not wait:
            raise Refused(what, hint="`--wait` waits until they have ended, `--force` cancels them.",
                          details={"jobs": jobs})
        if time.monotonic() > until:
            raise Refused(f"{what}; nothing was stopped", details={"jobs": jobs})
        time.sleep(ACTIVITY_POLL)


def _jobs(settings: Settings) -> list[str]:
    try:
        activity = ask(settings.control_socket, "GET", "/internal/activity", timeout=10.0)
    except Unavailable as error:
        raise Unavailable(f"The control process does not say what runs: {error.message}",
                          hint="`fuseml server start` starts one that is not there; `--force` stops the server all the "
                               "same.") from None
    return [str(name) for name in activity.get("jobs", [])]


def _shut_down(settings: Settings, force: bool, until: float) -> tuple[list[dict[str, str]], Unavailable | None]:
    """Ask control to stop services and agents, and with `force` jobs. The launcher asks once more; that is harmless.

    Control knows what runs: one that has just died is started again by the launcher, and worth a short wait. Returns
    what could not be ended, and what went wrong when control was asked.
    """
    patience = min(until, time.monotonic() + RESTART_TIMEOUT)
    while True:
        try:
            answer = ask(settings.control_socket, "POST", "/internal/shutdown",
                         {"stop_services": True, "cancel_jobs": force}, timeout=max(1.0, until - time.monotonic()))
            return list(answer.get("left") or []), None
        except Unavailable as error:
            if not force:
                raise
            known = status(settings)
            comes_back = known is not None and CONTROL not in known.given_up
            if comes_back and "status" not in error.details and time.monotonic() < patience:
                time.sleep(POLL)
                continue
            return [], error


def _terminate(settings: Settings, found: ServerState, until: float) -> None:
    """End the launcher, which ends its children, and see that every process id is gone."""
    server = lock_path(settings, "server")
    pids = [pid for pid in found.pids.values() if pid > 0]
    if (launcher := holder(server)) is not None and launcher > 0:
        _signal(launcher, signal.SIGTERM)
    _await_free(server, until)
    _stop_leftovers(settings, until)
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(POLL)
    remaining = [pid for pid in pids if alive(pid)]
    if remaining:
        raise Failed(f"These processes are still there: {', '.join(map(str, remaining))}")


def _stop_leftovers(settings: Settings, until: float) -> bool:
    """End control and data processes without a launcher. Returns whether there were any."""
    found = False
    for name in (CONTROL, DATA):
        path = lock_path(settings, name)
        if (pid := holder(path)) is not None and pid > 0:
            found = True
            _signal(pid, signal.SIGTERM)
            _await_free(path, until)
    return found


def _await_free(path: Path, until: float) -> None:
    """Wait for the end of a lock's holder; kill it when time is up."""
    while (pid := holder(path)) is not None:
        if time.monotonic() > until and pid > 0:
            _signal(pid, signal.SIGKILL)
        time.sleep(POLL)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended (a zombie has)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return not Path("/proc/self").exists()
