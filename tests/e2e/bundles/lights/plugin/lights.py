"""An agent and a builder for tests: what a workload does is known only from files, so any process can go on with it."""

import json
import time
from pathlib import Path

from fuseml_sdk import calls, hookimpl
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.types import (
    AgentDescription,
    BuilderDescription,
    Detection,
    LogChunk,
    WorkloadEvents,
    WorkloadStatus,
)

VERSION = "0.1.0"


class Lamp:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.folder = Path(state_dir) / "lamps"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.glow = config.get("glow", True)
        print(f"lamp {VERSION}, glow {self.glow}", flush=True)

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="lamp", kinds=["job", "service"], environments=["python"], schemes=["file", "git+file"],
                                capabilities={"lamp": "yes"}, concurrency=16)

    @hookimpl
    def agent_submit(self, workload):
        path = self.folder / workload.name
        if not path.exists():
            print(f"glowing: {workload.name}", flush=True)
            path.write_text(json.dumps({"state": "running", "since": time.time(), "by": VERSION}))
        return self._status(workload.name)

    @hookimpl
    def agent_status(self, names):
        return [self._status(name) for name in names]

    @hookimpl
    def agent_events(self, cursor, wait):
        until = time.monotonic() + wait
        while True:
            statuses = [self._status(path.name) for path in sorted(self.folder.glob("*"))]
            now = json.dumps([[status.name, status.state] for status in statuses])
            if now != cursor or time.monotonic() > until or calls.current().wait(0.1):
                return WorkloadEvents(statuses=statuses if now != cursor else [], cursor=now)

    @hookimpl
    def agent_logs(self, name, cursor, limit):
        status = self._status(name)
        if status.state == "unknown":
            raise NotFound(f"there is no {name}")
        return LogChunk(text="" if cursor else f"{name} glows\n", cursor="1", complete=status.state != "running")

    @hookimpl
    def agent_cancel(self, name, grace):
        if (self.folder.parent / "stuck").exists():
            raise InvalidInput("the switch is stuck", hint="Loosen it.")
        if self._status(name).state == "running":
            (self.folder / name).write_text(json.dumps({"state": "cancelled", "since": time.time()}))
        return self._status(name)

    @hookimpl
    def agent_collect(self, name):
        there = (self.folder / name).exists()
        (self.folder / name).unlink(missing_ok=True)
        return there

    def _status(self, name):
        try:
            known = json.loads((self.folder / name).read_text())
        except OSError:
            return WorkloadStatus(name=name, state="unknown")
        if known["state"] == "running" and not self.glow:
            return WorkloadStatus(name=name, state="succeeded", exit_code=0, started_at=known["since"],
                                  ended_at=time.time())
        return WorkloadStatus(name=name, state=known["state"], started_at=known["since"])


class Bulb:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.folder = Path(state_dir)

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="bulb", types=["lamp"], reads=["lamp.txt"], makes=["lamp"])

    @hookimpl
    def builder_detect(self, listing):
        if (self.folder / "dark").exists():
            raise InvalidInput("it is too dark to see", hint="Wait for the day.")
        there = any(file.path == "lamp.txt" for file in listing.files)
        return Detection(matches=there, type="lamp" if there else "", why=f"seen by {VERSION}")


agent = Lamp()
builder = Bulb()
