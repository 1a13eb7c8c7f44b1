"""The life of one workload, from staging to its final status."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuseml_process.directories import WorkDirectory, read_json, try_lock
from fuseml_process.shim import processes, variables
from fuseml_process.shim.failures import StepFailed, Stopped
from fuseml_process.shim.journal import Journal
from fuseml_process.shim.probe import Probe
from fuseml_process.shim.spawn import Command, spawn
from fuseml_process.shim.state import StatusFile
from fuseml_process.shim.supervise import KILLED_INSIDE, End, Limits, Supervision

_GRACE = 10.0
_PATH = "/usr/local/bin:/usr/bin:/bin"


def main(path: str) -> int:
    """Supervise the workload in a directory, unless somebody does or did already.

    Args:
        path: The work directory, with `workload.json` and `shim.json` in it.
    """
    with suppress(PermissionError):  # the agent started us in a session of our own
        os.setsid()
    os.umask(0o077)
    directory = WorkDirectory(Path(path))
    held = _acquire(directory)
    if held is None:
        return 0
    os.ftruncate(held, 0)
    os.write(held, str(os.getpid()).encode())
    workload, settings = read_json(directory.workload), read_json(directory.settings)
    Life(directory, workload, settings).run()
    return 0


def _acquire(directory: WorkDirectory) -> int | None:
    """Take the lock for good; None if the workload has, or had, a supervisor.

    The agent takes the lock for an instant to see whether it is held, so one failure means nothing.
    """
    for _attempt in range(50):
        held = try_lock(directory.lock)
        if directory.status.exists():
            return None
        if held is not None:
            return held
        time.sleep(0.01)
    return None


class Life:
    """Takes one workload through its phases."""

    def __init__(self, directory: WorkDirectory, workload: dict[str, Any], settings: dict[str, Any]) -> None:
        self._directory, self._workload, self._settings = directory, workload, settings
        self._runnable = workload["runnable"]
        self._status = StatusFile(directory, settings["notify"], settings["submitted_at"])
        self._journal = Journal(directory.log, settings["log_limit"])
        self._told = False
        self._interruptible = True
        self._wake, wake_writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> None:
        """Do everything; never raises, whatever happens is in the status."""
        try:
            processes.adopt_orphans()
            self._phases()
        except Stopped:
            self._finish_stopped("stopped on request before it ran")
        except StepFailed as error:
            self._finish("failed", reason=error.reason, message=error.message)
        except Exception as error:  # the boundary: nothing may end without a status
            _print_traceback()
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "DiskFull" if full else "Internal"
            self._finish("failed", reason=reason, message=f"{type(error).__name__}: {error}")

    def _phases(self) -> None:
        self._status.reserve()
        self._enter("staging inputs", state="preparing")
        for name in ("inputs", "outputs", "info", "scratch", "tmp"):
            (self._directory.path / name).mkdir(exist_ok=True)
        from fuseml_process.shim.staging import Stager

        began = time.monotonic()
        stager = Stager(self._directory, Path(self._settings["cache"]), self._settings["variables"])
        contents = stager.contents(self._workload["contents"])
        inputs = stager.inputs(self._workload["inputs"])
        self._warn(stager.warnings)
        began = self._timed("staging", began)
        python, path = self._environment(self._runnable["environment"], contents, inputs)
        pythons = {"": python} | {name: self._environment(spec, contents, inputs, name)[0]
                                  for name, spec in (self._runnable.get("environments") or {}).items()}
        began = self._timed("environment", began)
        values = variables.build_values(self._workload, self._directory, inputs, contents, pythons)
        command = self._command(values, inputs, path)
        self._interruptible = False
        self._check_stop()
        end = self._execute(command)
        began = self._timed("run", began)
        self._conclude(end)

    def _environment(self, spec: dict[str, Any], contents: Path, inputs: dict[str, Path],
                     name: str = "") -> tuple[Path, Path | None]:
        if not any(spec.get(key) for key in ("lock", "wheels", "from_input", "python")):
            return Path(self._settings["python"]), None
        from fuseml_process.shim.environment import prepare, users_of_environment

        self._enter(f"building environment {name}".strip())
        ready = prepare(spec, contents, inputs, self._settings, self._journal.note,
                        users_of_environment(self._workload, spec))
        self._warn(ready.warnings)
        return ready.python, ready.path

    def _command(self, values: dict[tuple[str, str], str], inputs: dict[str, Path], venv: Path | None) -> Command:
        variables.write_config(self._workload, self._directory, inputs)
        for spec in self._runnable["outputs"]:
            if spec["kind"] != "value":
                self._directory.output(spec["name"]).mkdir(exist_ok=True)
        path = self._settings.get("path") or _PATH
        base = dict(self._settings["variables"])
        base |= {"PATH": f"{venv}/bin{os.pathsep}{path}", "VIRTUAL_ENV": str(venv)} if venv else {"PATH": path}
        arguments = variables.build_arguments(self._workload, values)
        if venv is None and arguments[0] in ("python", "python3"):
            arguments[0] = values["python", ""]
        told = variables.build_variables(self._workload, self._directory, values, base)
        start_in = self._runnable["working_directory"]
        where = values.get(("input", start_in), "") if start_in else ""
        return Command(arguments, told, where or str(self._directory.path / "scratch"))

    def _execute(self, command: Command) -> End:
        """Run the command to its end."""
        service, variables_ = self._runnable["service"], dict(command.variables)
        listening, address = None, None
        if self._workload["kind"] == "service":
            listening, address = self._listen(service["listen"])
            if isinstance(address, int):
                variables_["FUSEML_SERVICE_PORT"] = str(address)
        reader, writer = os.pipe()
        try:
            pid = spawn(command._replace(variables=variables_), writer, listening.fileno() if listening else None)
        finally:
            os.close(writer)
            if listening is not None:
                listening.close()  # so that nobody connects to a service that has ended
        try:
            self._enter("starting" if address is not None else "", state="running", started_at=time.time())
            return self._supervise(pid, reader, service, address)
        finally:
            os.close(reader)
            if isinstance(address, str):
                Path(address).unlink(missing_ok=True)

    def _supervise(self, pid: int, reader: int, service: dict[str, Any] | None, address: str | int | None) -> End:
        if address is None or service is None:
            limits = Limits(self._settings["timeout"], self._settings["memory"], None)
            return Supervision(pid, reader, self._journal, limits, self._stop_requested, self._wake).run()
        limits = Limits(None, self._settings["memory"], service["start_timeout"])
        endpoint = f"unix:{address}" if isinstance(address, str) else f"http://127.0.0.1:{address}"
        began = time.monotonic()

        def ready() -> None:
            self._timed("start", began)
            self._enter("", state="ready", endpoint=endpoint)

        watching = Supervision(pid, reader, self._journal, limits, self._stop_requested, self._wake)
        return watching.run(Probe(address, service["ready_path"]), ready)

    def _listen(self, how: str) -> tuple[socket.socket | None, str | int]:
        """A listening Unix socket to pass on, or a free TCP port."""
        if how == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as free:
                return None, free.getsockname()[1]
        path = self._settings["socket"]
        Path(path).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(path)
            listening.listen(256)
        except OSError as error:
            listening.close()
            raise StepFailed("Socket", f"the socket {path} could not be made: {error}") from None
        return listening, path

    def _conclude(self, end: End) -> None:
        """Turn the end of the process into the final status."""
        self._status.values |= {"exit_code": end.code, "signal": end.signal}
        if end.cause == "Cancelled":
            self._finish_stopped(end.message)
        elif end.cause:
            self._finish("failed", reason=end.cause, message=end.message)
        elif end.signal is not None or end.code == KILLED_INSIDE:
            self._finish("failed", **_by_signal(end))
        elif end.code or self._workload["kind"] == "service":
            what = "service" if self._workload["kind"] == "service" else "job"
            self._finish("failed", reason="ExitCode", message=f"the {what} ended with exit code {end.code}; its last "
                         "lines are in the log")
        else:
            self._collect()

    def _collect(self) -> None:
        if not self._runnable["outputs"]:
            self._finish("succeeded")
            return
        from fuseml_process.shim.outputs import collect

        began = time.monotonic()
        self._enter("collecting outputs")
        outputs, warnings = collect(self._runnable["outputs"], self._directory)
        self._warn(warnings)
        self._timed("collect", began)
        self._finish("succeeded", outputs=outputs)

    def _finish_stopped(self, message: str) -> None:
        """Somebody cancelled the workload, or the supervisor was told to end although nobody did."""
        if self._directory.cancel.exists():
            self._finish("cancelled", reason="Cancelled", message=message)
        else:
            self._finish("failed", reason="Lost", message="the supervisor was told to end, for instance because the "
                         "machine is shutting down")

    def _finish(self, state: str, **fields: Any) -> None:
        self._interruptible = False
        processes.end_tree(None)
        metrics: list[dict[str, Any]] = []
        if self._directory.metrics.exists():
            from fuseml_process.shim.outputs import read_metrics

            metrics, warnings = read_metrics(self._directory.metrics)
            self._warn(warnings)
        last = {"state": state, "metrics": metrics, "log_tail": self._journal.tail(), "endpoint": None, **fields}
        self._status.finish(**last)

    def _enter(self, phase: str, **changes: Any) -> None:
        self._status.update(phase=phase, **changes)
        if self._interruptible:
            self._check_stop()

    def _check_stop(self) -> None:
        if self._stop_requested() is not None:
            raise Stopped

    def _stop_requested(self) -> float | None:
        """The grace in seconds once the workload shall stop."""
        if not self._told and not self._directory.cancel.exists():
            return None
        wish = read_json(self._directory.cancel) or {}
        return float(wish.get("grace", _GRACE))

    def _on_terminate(self, _number: int, _frame: object) -> None:
        self._told = True
        if self._interruptible:
            self._interruptible = False
            raise Stopped

    def _timed(self, phase: str, began: float) -> float:
        now = time.monotonic()
        self._status.values["timings"][phase] = round(now - began, 4)
        return now

    def _warn(self, warnings: list[str]) -> None:
        self._status.values["warnings"] += warnings


def _print_traceback() -> None:
    """Onto standard error, which is `shim.log`."""
    import traceback

    traceback.print_exc()


def _by_signal(end: End) -> dict[str, Any]:
    """Why a process was killed, or one that it had started and whose end its exit code passes on."""
    if end.killed_by_kernel:
        return {"reason": "OutOfMemory", "message": "the kernel killed the workload: the machine ran out of memory"}
    number = signal.SIGKILL if end.signal is None else end.signal
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    more = "; SIGKILL often means that the machine or container ran out of memory" if number == signal.SIGKILL else ""
    if end.signal is None:
        return {"reason": "ExitCode", "message": f"a program that the workload ran was ended by {name} "
                                                 f"(exit code {end.code}){more}"}
    return {"reason": "Signal", "message": f"the workload was ended by {name}{more}"}
