"""A process agent in a private directory, and short ways to describe workloads."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml_process.plugin import ProcessPlugin
from fuseml_sdk.types import FINAL_STATES, RunnableDescriptor, Workload, WorkloadStatus


class Bench:
    """One agent over one root; several can be made over the same root, as after a restart."""

    def __init__(self, base: Path, sockets: Path) -> None:
        self.base, self.root, self.sockets = base, base / "work", sockets
        self.config: dict[str, Any] = {"root": str(self.root), "environments": str(base / "envs"),
                                       "cache": str(base / "cache"), "sockets": str(sockets),
                                       "limits": {"jobs": 8, "services": 2}}
        self.plugin = ProcessPlugin()
        self.numbers = 0
        self.start()

    def start(self, **more: Any) -> ProcessPlugin:
        """A new instance over the same directories."""
        self.config |= more
        self.plugin.fuseml_shutdown()
        self.plugin = ProcessPlugin()
        self.plugin.fuseml_configure(self.config, str(self.base / "state"))
        return self.plugin

    def workload(self, code: str | list[str], *, kind: str = "job", name: str = "", **fields: Any) -> Workload:
        """A workload that runs Python code, or a command given as a list.

        `takes` and `knobs` are the input and parameter specifications of the runnable; `inputs`, `parameters`,
        `env`, `resources` and `timeout` belong to the workload.
        """
        self.numbers += 1
        own = {"inputs": fields.pop("takes", []), "parameters": fields.pop("knobs", [])}
        own |= {key: fields.pop(key) for key in list(fields) if key in RunnableDescriptor.model_fields and key not in own
                and key not in ("name", "kind", "env", "resources", "timeout")}
        command = ["{python}", "-c", code] if isinstance(code, str) else code
        runnable = RunnableDescriptor.model_validate({"name": "thing", "command": command, **own})
        return Workload.model_validate({"name": name or f"w-{self.numbers}", "kind": kind, "runnable": runnable, **fields})

    def submit(self, code: str | list[str], **fields: Any) -> str:
        """Submit and return the name."""
        workload = self.workload(code, **fields)
        self.plugin.agent_submit(workload)
        return workload.name

    def until(self, name: str, *states: str, timeout: float = 60.0) -> WorkloadStatus:
        """Follow the events until a workload is in one of `states`, or has ended."""
        deadline, cursor = time.monotonic() + timeout, ""
        while time.monotonic() < deadline:
            events = self.plugin.agent_events(cursor, 5.0)
            cursor = events.cursor
            for status in events.statuses:
                if status.name == name and (status.state in states or status.state in FINAL_STATES):
                    return status
        raise AssertionError(self.plugin.agent_status([name]))

    def run(self, code: str | list[str], **fields: Any) -> WorkloadStatus:
        """Submit a job and wait for its end."""
        return self.until(self.submit(code, **fields))

    def log(self, name: str) -> str:
        """The whole log."""
        return self.plugin.agent_logs(name, "", 1 << 20).text


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    sockets = Path(tempfile.mkdtemp(prefix="fz-"))
    made = Bench(tmp_path, sockets)
    yield made
    names = [path.name for path in made.root.iterdir() if not path.name.startswith(".")]
    for name in names:
        made.plugin.agent_cancel(name, 0)
    for name in names:
        made.until(name)
    made.plugin.fuseml_shutdown()
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[dict[str, str]], tuple[Path, str]]:
    """Make a bare repository with one commit of the given files; returns it and the commit."""

    def make(files: dict[str, str]) -> tuple[Path, str]:
        work, bare = tmp_path / "clone", tmp_path / "code.git"
        work.mkdir()
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1",
               "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost", "GIT_COMMITTER_NAME": "t",
               "GIT_COMMITTER_EMAIL": "t@localhost"}

        def git(*arguments: str, cwd: Path = work) -> str:
            done = subprocess.run(["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True)
            return done.stdout.strip()

        git("init", "-q", "-b", "main")
        for name, text in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", "one")
        git("clone", "-q", "--bare", str(work), str(bare), cwd=tmp_path)
        return bare, git("rev-parse", "HEAD")

    return make
