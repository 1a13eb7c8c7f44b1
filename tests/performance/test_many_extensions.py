"""Twenty installed extensions: help costs the same, lists are quick, and nothing is started for being looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parents[2]
FUSEML = Path(sys.executable).with_name("fuseml")
COUNT, REPEAT = 20, 10
PLUGIN = '''
from fuseml_sdk import hookimpl
from fuseml_sdk.types import AgentDescription, BuilderDescription, Detection

class Everything:
    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="idle", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="idle", types=["idle"], reads=["idle.txt"], makes=["idle"])

    @hookimpl
    def builder_detect(self, listing):
        return Detection(matches=False)

plugin = Everything()
'''


class Home:
    """A server of its own and the command line to it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.environment = {**os.environ, "FUSEML_HOME": folder, "FUSEML_PORT": "0"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([FUSEML, *arguments], env=self.environment, capture_output=True, text=True, timeout=600,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def best(self, *arguments: str, beside: Home | None = None) -> tuple[float, float]:
        """Seconds of the fastest of several runs, here and by turns at another server."""
        times: list[list[float]] = [[], []]
        for _ in range(REPEAT):
            for home, taken in zip((self, beside or self), times, strict=True):
                began = time.perf_counter()
                home(*arguments)
                taken.append(time.perf_counter() - began)
        return min(times[0]), min(times[1])

    def processes(self) -> list[str]:
        """Extensions of which a process runs."""
        return [p["name"] for p in json.loads(self("plugin", "list", "-o", "json")) if p["pid"] and p["digest"]]


def sources(folder: Path, lock: str) -> list[Path]:
    """Twenty extensions with the same code, an agent and a builder each, so that they share one environment."""
    (folder / "plugin").mkdir()
    (folder / "plugin/pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling>=1.30"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "idle"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n')
    (folder / "plugin/idle.py").write_text(PLUGIN)
    made = []
    for number in range(COUNT):
        bundle = folder / f"many{number:02}"
        bundle.mkdir()
        (bundle / "requirements.lock").write_text(lock)
        (bundle / "extension.toml").write_text(
            f'name = "{bundle.name}"\nversion = "0.1.0"\nsummary = "One of many."\n[environment]\n'
            f'lock = "requirements.lock"\nwheels = ["../plugin", "{os.path.relpath(ROOT / "plugins/fuseml-sdk", bundle)}"]\n'
            '[[components]]\nfamily = "agent"\nname = "idle"\nplugin = "idle:plugin"\n'
            '[[components]]\nfamily = "builder"\nname = "idle"\nplugin = "idle:plugin"\n')
        made.append(bundle)
    return made


def test_twenty_installed_extensions_cost_no_help_no_process_and_at_most_250_ms_to_list(tmp_path):
    lock = compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"])
    bundles = sources(tmp_path, lock)
    with tempfile.TemporaryDirectory(prefix="fz-m-") as folder, tempfile.TemporaryDirectory(prefix="fz-n-") as none:
        home, empty = Home(folder), Home(none)
        try:
            for bundle in bundles:
                home("bundle", "push", str(bundle))
            home("extension", "install", *(bundle.name for bundle in bundles))
            assert len(json.loads(home("extension", "list", "-o", "json"))) == COUNT
            settled = time.monotonic() + 120  # until then what is new is watched, and started for that
            while json.loads(home("extension", "history", "-o", "json"))[0]["state"] != "settled":
                assert time.monotonic() < settled
                time.sleep(0.5)
            home("server", "stop", "--force")
            home("server", "start")
            helped, bare = home.best("--help", beside=empty)
            listed, listed_none = home.best("extension", "list", beside=empty)
            plugins, runnables = home.best("plugin", "list")[0], home.best("runnable", "list")[0]
            started = home.processes()
        finally:
            home("server", "stop", "--force")
            empty("server", "stop", "--force")
    sys.stderr.write(f"\n{COUNT} extensions: --help {helped * 1e3:.0f} ms (none installed {bare * 1e3:.0f} ms, ratio "
                     f"{helped / bare:.2f}), extension list {listed * 1e3:.0f} ms (none {listed_none * 1e3:.0f} ms), plugin list {plugins * 1e3:.0f} ms, "
                     f"runnable list {runnables * 1e3:.0f} ms, processes started: {len(started)}\n")
    assert started == []
    assert helped <= 1.3 * bare
    assert listed <= 0.25
