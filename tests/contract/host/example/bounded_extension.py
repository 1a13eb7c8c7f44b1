"""A store and an agent that take as much of something as they get, and tell how much that was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fuseml_sdk import hookimpl
from fuseml_sdk.types import AgentDescription, StoreDescription


class _Taker:
    """Its setting `take` says what is taken when it is asked for its health."""

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self._take, self._state = config.get("take", ""), Path(state_dir)

    @hookimpl
    def fuseml_health(self):
        return getattr(self, f"_{self._take}")()

    def _memory(self):
        taken = []
        while len(taken) < 512:
            taken.append(b"\1" * (2 << 20))
        return {"taken": len(taken) * (2 << 20)}

    def _memory_of_a_child(self):
        child = subprocess.run([sys.executable, "-c", "x = [b'\\1' * (2 << 20) for _ in range(512)]"], check=False)
        return {"ended": child.returncode}

    def _files(self):
        taken, why = [], ""
        try:
            while len(taken) < 5000:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            why = error.strerror
        for descriptor in taken:
            os.close(descriptor)
        return {"taken": len(taken), "why": why}

    def _processes(self):
        taken, why = [], ""
        try:
            while len(taken) < 300:
                taken.append(subprocess.Popen(["sleep", "600"]))
        except OSError as error:
            why = error.strerror
        for child in taken:
            child.kill()
            child.wait()
        return {"taken": len(taken), "why": why}

    def _space(self):
        path, why = self._state / "large", ""
        try:
            with path.open("wb", buffering=0) as file:
                while file.tell() < 64 << 20:
                    file.write(b"x" * (1 << 20))
        except OSError as error:
            why = error.strerror
        return {"taken": path.stat().st_size, "why": why}

    def _orphan(self):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {"pid": child.pid}

    def _way_out(self):
        refused = {}
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            group = line.rpartition(":")[2].lstrip("/")
            for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
                for name, text in (("cgroup.procs", "0"), ("memory.limit_in_bytes", "-1"), ("memory.max", "max"),
                                   ("pids.max", "max")):
                    for place in (Path(root), Path(root) / group):
                        refused[str(place / name)] = _refused(place / name, text)
        return refused

    def _suicide(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Store(_Taker):
    @hookimpl
    def store_describe(self):
        return StoreDescription(name="bounded", kinds=["model"], schemes=["file"], capabilities=[])


class Agent(_Taker):
    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="bounded", kinds=["job"], environments=[], schemes=["file"])


def _refused(path, text):
    try:
        path.write_text(text)
    except OSError as error:
        return error.strerror
    return ""
