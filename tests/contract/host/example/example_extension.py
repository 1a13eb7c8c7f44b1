"""A small but whole extension: a store, an agent and a builder that keep their state in files."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import faults

from fuseml_sdk import calls, errors, hookimpl
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactDescriptor,
    BuilderDescription,
    BuildResult,
    BuiltRunnable,
    Detection,
    GarbageReport,
    Location,
    LogChunk,
    Metric,
    RunnableDescriptor,
    StoreDescription,
    StoreEvent,
    StoreEvents,
    StorePage,
    WorkloadEvents,
    WorkloadStatus,
)


class _Configured:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        if config.get("endpoint") == "wrong":
            raise errors.InvalidInput("endpoint is no URL", hint="Write http://…")
        if "slow_start" in config:
            time.sleep(config["slow_start"])
        if "die_at_start" in config:
            print("giving up at start", file=sys.stderr, flush=True)
            os._exit(config["die_at_start"])
        self.config = config
        self.state = Path(state_dir)

    @hookimpl
    def fuseml_health(self):
        return {"pid": os.getpid(), "cwd": os.getcwd(), "environment": dict(os.environ)}


class Store(_Configured):
    """Keeps descriptors of models as JSON files."""

    def _path(self, ref):
        return self.state / f"{ref.project}-{ref.name}-{ref.digest.replace(':', '-')}.json"

    def _keep(self, ref, descriptor):
        # Renamed into place, so that a kill at any moment leaves the old file, the new one or none.
        new = self._path(ref).with_suffix(f".{threading.get_ident()}.new")
        new.write_text(descriptor.model_dump_json())
        new.replace(self._path(ref))

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="example", kinds=["model"], schemes=["file"], concurrency=4,
                                capabilities=["register", "search", "update", "delete", "events", "collect_garbage"])

    @hookimpl
    def store_register(self, request):
        digest = request.digest or "sha256:" + hashlib.sha256(repr(request).encode()).hexdigest()
        made = ArtifactDescriptor(kind=request.kind, project=request.project, name=request.name, digest=digest,
                                  type=request.type, labels=request.labels, metadata=request.metadata)
        self._keep(made, made)
        with (self.state / "registrations").open("a") as file:
            file.write(f"{request.name}\n")
        if request.labels.get("die") == "once" and not (self.state / "died").exists():
            (self.state / "died").touch()
            print("dying once", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    @hookimpl
    def store_get(self, ref):
        try:
            return ArtifactDescriptor.model_validate_json(self._path(ref).read_text())
        except FileNotFoundError:
            raise errors.NotFound(f"there is no model {ref.name}", hint="Register it.",
                                  details={"name": ref.name}) from None

    @hookimpl
    def store_search(self, query):
        found = [json.loads(p.read_text()) for p in sorted(self.state.glob("*.json"))]
        return StorePage(items=[ArtifactDescriptor(**d) for d in found][:query.limit])

    @hookimpl
    def store_update(self, ref, change):
        changed = self.store_get(ref).model_copy(update=change.model_dump(exclude_none=True))
        self._keep(ref, changed)
        return changed

    @hookimpl
    def store_delete(self, ref):
        there = self._path(ref).exists()
        self._path(ref).unlink(missing_ok=True)
        return there

    @hookimpl
    def store_locate(self, ref, accepts):
        if "file" not in accepts:
            raise errors.Unsupported(f"only file is served, not {accepts}")
        return Location(uri=f"file://{ref.project}/{ref.name}")

    @hookimpl
    def store_events(self, cursor, wait):
        return StoreEvents(events=[StoreEvent(type="created", kind="model", project="p", name="n")],
                           cursor=str(int(cursor or 0) + 1))

    @hookimpl
    def store_collect_garbage(self, keep, dry_run):
        while keep == ["wait"] and not (self.state / "go").exists():
            time.sleep(0.02)
        if keep == ["die"]:
            print("dying while collecting", file=sys.stderr, flush=True)
            os._exit(13)
        return GarbageReport(removed=[] if dry_run else ["sha256:1"], bytes=5)


class Agent(_Configured):
    """Runs nothing, but keeps to the contract; the names of workloads choose what goes wrong."""

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="example", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def agent_submit(self, workload):
        return WorkloadStatus(name=workload.name, state="running", started_at=12.5, timings={"staging": 0.25})

    @hookimpl
    def agent_status(self, names):
        return [self._status(name) for name in names]

    def _status(self, name):
        verb, _, argument = name.partition("-")
        if verb == "raise":
            raise errors.BY_TYPE[argument](f"raised {argument}", hint="a hint", details={"code": 7})
        if verb == "defect":
            raise KeyError("odd")
        if verb == "quit":
            raise SystemExit("that was all")
        if verb == "diverged":
            return WorkloadStatus(name=name, state="running", metrics=[Metric(key="loss", value=float("nan"))])
        if verb == "none":
            return "not a status"
        if verb == "hang":
            time.sleep(float(argument))
        if verb == "cancellable":
            (self.state / "begun").touch()
            began, call = time.monotonic(), calls.current()
            if call.wait(float(argument)):
                (self.state / "cancelled").write_text(str(time.monotonic() - began))
        if verb == "fault":
            getattr(faults, argument)(self.state)
        if verb == "child":
            subprocess.Popen(["sleep", argument])
        if verb == "call":
            call = calls.current()
            return WorkloadStatus(name=name, state="running", message=f"{call.id} {call.traceparent} {call.remaining()}")
        return WorkloadStatus(name=name, state="unknown")

    @hookimpl
    def agent_events(self, cursor, wait):
        time.sleep(wait)
        return WorkloadEvents(cursor=cursor + "x")

    @hookimpl
    def agent_logs(self, name, cursor, limit):
        return LogChunk(text="ü\n\x00\u2028" * 3, cursor="9", complete=True)

    @hookimpl
    def agent_cancel(self, name, grace):
        return WorkloadStatus(name=name, state="cancelled")

    @hookimpl
    def agent_collect(self, name):
        return None if name == "forgetful" else name == "known"


class Builder(_Configured):
    """Recognises a file called `toy`."""

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="example", types=["toy"], reads=["toy"], makes=["trainer"])

    @hookimpl
    def builder_detect(self, listing):
        return Detection(matches="toy" in listing.contents, type="toy", why="looked for toy",
                         metadata={"n": len(listing.files)})

    @hookimpl
    def builder_build(self, request):
        descriptor = RunnableDescriptor(kind="trainer", name=request.name, command=["true"])
        return BuildResult(runnables=[BuiltRunnable(output="trainer", descriptor=descriptor)])


class Misspelt:
    """Implements a hook that does not exist."""

    @hookimpl
    def store_describes(self):
        return None


store = Store()
