"""An agent that keeps every rule, and for each rule one that breaks it alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from fuseml_sdk import hookimpl
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady
from fuseml_sdk.types import FINAL_STATES, AgentDescription, LogChunk, WorkloadEvents, WorkloadStatus

SCRIPT = '"$@" >log 2>&1; code=$?; [ -e cancelled ] || { echo $code >draft; mv draft code; }'


class Agent:
    """One directory for each workload; its state is what lies there."""

    environments = ("python",)

    def __init__(self):
        self.state, self.lock = None, threading.Lock()

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.state = Path(state_dir) / "work"
        self.state.mkdir(exist_ok=True)

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="kit", kinds=["job"], environments=list(self.environments), schemes=["file"])

    @hookimpl
    def agent_submit(self, workload):
        if workload.kind != "job":
            raise InvalidInput("only jobs run here")
        with self.lock:
            folder = self.folder(workload.name)
            if not folder.exists():
                folder.mkdir()
                self.start(workload, folder)
        return self.status(workload.name)

    def start(self, workload, folder):
        command = [sys.executable if word == "{python}" else word for word in workload.runnable.command]
        write_durably(folder / "submitted", str(time.time()).encode())
        process = subprocess.Popen(["/bin/sh", "-c", SCRIPT, "sh", *command], cwd=folder, start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        write_durably(folder / "pid", str(process.pid).encode())
        threading.Thread(target=process.wait, daemon=True).start()

    @hookimpl
    def agent_status(self, names):
        return [self.status(name) for name in names]

    def status(self, name):
        folder = self.folder(name)
        try:
            submitted = float((folder / "submitted").read_text())
        except OSError:
            return WorkloadStatus(name=name, state="unknown")
        if (folder / "cancelled").exists():
            return self.ended(name, "cancelled", None, submitted, folder / "cancelled")
        if (folder / "code").exists():
            code = int((folder / "code").read_text())
            return self.ended(name, "failed" if code else "succeeded", code, submitted, folder / "code")
        return WorkloadStatus(name=name, state="running", submitted_at=submitted)

    def ended(self, name, state, code, submitted, mark):
        told = {"reason": "ExitCode", "message": f"It ended with exit code {code}."} if code else {}
        return WorkloadStatus(name=name, state=state, exit_code=code, submitted_at=submitted,
                              ended_at=max(submitted, mark.stat().st_mtime), **told)

    @hookimpl
    def agent_events(self, cursor, wait):
        try:
            known = dict(json.loads(cursor)) if cursor else {}
        except (ValueError, TypeError):
            raise InvalidInput("no cursor") from None
        end = time.monotonic() + min(wait, 30)
        while True:
            found = [self.status(path.name) for path in sorted(self.state.iterdir())]
            changed = [each for each in found if known.get(each.name) != each.state and each.state != "unknown"]
            if changed or time.monotonic() > end:
                return WorkloadEvents(statuses=changed, cursor=json.dumps({each.name: each.state for each in found}))
            time.sleep(0.05)

    @hookimpl
    def agent_logs(self, name, cursor, limit):
        if self.status(name).state == "unknown":
            raise NotFound(f"there is no {name!r}")
        if cursor and not cursor.isdigit():
            raise InvalidInput("no cursor")
        ended = self.status(name).state in FINAL_STATES
        log = self.folder(name) / "log"
        data = log.read_bytes() if log.exists() else b""
        piece = self.piece(data[int(cursor or 0):], limit)
        end = int(cursor or 0) + len(piece)
        return LogChunk(text=piece.decode(errors="replace"), cursor=str(end), complete=ended and end == len(data))

    def piece(self, data, limit):
        piece = data[:max(4, limit)]
        return piece.decode(errors="ignore").encode()

    @hookimpl
    def agent_cancel(self, name, grace):
        if self.status(name).state not in (*FINAL_STATES, "unknown"):
            self.stop(name)
        return self.status(name)

    def stop(self, name):
        folder = self.folder(name)
        write_durably(folder / "cancelled", b"")
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((folder / "pid").read_text()), signal.SIGKILL)

    @hookimpl
    def agent_collect(self, name):
        if self.status(name).state == "unknown":
            return False
        if self.status(name).state not in FINAL_STATES:
            raise InvalidInput("it runs")
        shutil.rmtree(self.folder(name))
        return True

    def folder(self, name):
        if self.state is None:
            raise NotReady("not configured")
        if not name or "/" in name or "\0" in name or name.startswith(".") or len(name) > 63:
            raise InvalidInput("no name of a workload")
        return self.state / name


class AG01(Agent):
    @hookimpl
    def agent_describe(self):
        return super().agent_describe().model_copy(update={"domains": []})


class AG02(Agent):
    @hookimpl
    def agent_status(self, names):
        return [status for status in super().agent_status(names)
                if status.state != "unknown" or not status.name.startswith("conformance-never")]


class AG03(Agent):
    @hookimpl
    def agent_logs(self, name, cursor, limit):
        if name == "conformance-never":
            return LogChunk(text="", cursor="0", complete=True)
        return super().agent_logs(name, cursor, limit)


class AG04(Agent):
    @hookimpl
    def agent_collect(self, name):
        return name == "conformance-never" or super().agent_collect(name)


class AG05(Agent):
    @hookimpl
    def agent_submit(self, workload):
        known = self.folder(workload.name).exists()
        found = super().agent_submit(workload)
        return found if known else found.model_copy(update={"state": "unknown"})


class AG06(Agent):
    @hookimpl
    def agent_status(self, names):
        found = super().agent_status(names)
        return sorted(found, key=lambda status: status.name) if len(names) > 2 else found


class AG07(Agent):
    @hookimpl
    def agent_submit(self, workload):
        return super().agent_submit(workload.model_copy(update={"kind": "job"}))


class AG08(Agent):
    @hookimpl
    def agent_events(self, cursor, wait):
        time.sleep(16 if 0 < wait < 1 else 0)
        return super().agent_events(cursor, wait)


class AG11(Agent):
    def ended(self, name, state, code, submitted, mark):
        return super().ended(name, state, code or None, submitted, mark)


class AG12(Agent):
    def ended(self, name, state, code, submitted, mark):
        return super().ended(name, state, code, submitted, mark).model_copy(update={"reason": ""})


class AG13(Agent):
    def ended(self, name, state, code, submitted, mark):
        return super().ended(name, state, code, submitted, mark).model_copy(update={"started_at": submitted - 60})


class AG14(Agent):
    @hookimpl
    def agent_logs(self, name, cursor, limit):
        found = super().agent_logs(name, cursor, limit)
        return found.model_copy(update={"text": found.text.replace("日", "?")})


class AG15(Agent):
    def piece(self, data, limit):
        return data[:limit]


class AG16(Agent):
    @hookimpl
    def agent_submit(self, workload):
        folder = self.folder(workload.name)
        if folder.exists() and self.status(workload.name).state in FINAL_STATES:
            shutil.rmtree(folder)
        return super().agent_submit(workload)


class AG17(Agent):
    def ended(self, name, state, code, submitted, mark):
        return super().ended(name, "failed" if state == "cancelled" else state, code, submitted, mark)


class AG18(Agent):
    @hookimpl
    def agent_cancel(self, name, grace):
        if self.status(name).state != "unknown":
            self.stop(name)
        return self.status(name)


class AG19(Agent):
    @hookimpl
    def agent_collect(self, name):
        found = super().agent_collect(name)
        return found or name != "conformance-never"


class AG20(Agent):
    @hookimpl
    def agent_collect(self, name):
        if self.status(name).state == "running":
            self.stop(name)
        return super().agent_collect(name)

    @hookimpl
    def agent_cancel(self, name, grace):
        if self.status(name).state == "unknown" and name.startswith("conformance-"):
            return WorkloadStatus(name=name, state="cancelled")
        return super().agent_cancel(name, grace)


class AG21(Agent):
    @hookimpl
    def agent_events(self, cursor, wait):
        found = super().agent_events(cursor, wait)
        return found.model_copy(update={"statuses": found.statuses * 2})


class AG22(Agent):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        shutil.rmtree(Path(state_dir) / "work", ignore_errors=True)
        super().fuseml_configure(config, state_dir)
