"""Resolving over a large catalog, and installing a bundle whose files are here already."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.extensions import SqlExtensions, SqlExtensionSettings
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.domain.extensions import TrustDecision
from fuseml_core.service.extensions import ExtensionSettings, Options
from fuseml_core.service.extensions.planning import Planner
from fuseml_core.service.extensions.ports import Available, FoundBundle
from fuseml_core.service.extensions.store import BundleStore

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parents[2]
PACKAGES, VERSIONS, GROUP = 5000, 20, 100
FUSEML = Path(sys.executable).with_name("fuseml")
AGENT = '''
from fuseml_sdk import hookimpl
from fuseml_sdk.types import AgentDescription

class Idle:
    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="idle", kinds=["job"], environments=["python"], schemes=["file"])

plugin = Idle()
'''


class Catalog:
    """5 000 packages with 20 versions each, 100 of which hang together; every third newest version leads nowhere."""

    def __init__(self) -> None:
        self.packages = {f"p{number}": self._versions(number) for number in range(PACKAGES)}

    def _versions(self, number: int) -> list[Available]:
        needed = [n for n in (number + 1, number + 7, number + 13) if n < PACKAGES and n // GROUP == number // GROUP]
        return [Available(f"1.{minor}.0", requires_fuseml=">=0.1,<1", dependencies=tuple(
            (f"p{n}", ">=1.19.0" if n % 3 == 0 and minor > 16 else f">=1.{max(0, minor - 4)},<1.19") for n in needed))
            for minor in reversed(range(VERSIONS))]

    def find(self, reference, _wish):
        return self.find_version("", reference, self.packages[reference][-5].version, _wish)

    def versions(self, _sibling, name, _wish):
        return self.packages[name]

    def find_version(self, _sibling, name, version, _wish):
        dependencies = next(a.dependencies for a in self.packages[name] if a.version == version)
        return FoundBundle(f"oci://catalog.example/{name}:{version}", f"sha256:{hash((name, version)) & (2**64 - 1):064x}",
                           {"manifest": {"name": name, "version": version, "dependencies": [
                               {"name": n, "range": r} for n, r in dependencies]}, "layers": []})

    def decide(self, _found, _wish):
        return TrustDecision(True)

    def missing(self, _found):
        return []

    def advice(self, _reference, _name, _version):
        return ()


def test_r172_a_plan_over_5000_packages_with_20_versions_takes_at_most_200_ms(tmp_path):
    engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    migrate(engine)
    records = SqlExtensions(engine)
    planner = Planner(records, SqlGenerations(engine), Catalog(), ExtensionSettings(records, SqlExtensionSettings(engine)),
                      BundleStore(tmp_path / "store"), "0.1.0")
    best = float("inf")
    for start in (0, 100, 2500, 4900):
        began = time.process_time()
        plan = planner.install([f"p{start}"], Options())
        best = min(best, time.process_time() - began)
        assert len(plan.changes) == GROUP
    sys.stderr.write(f"\nplan of {GROUP} extensions out of {PACKAGES} x {VERSIONS}: {best * 1e3:.0f} ms of CPU time\n")
    engine.dispose()
    assert best <= 0.2


def source(folder: Path, lock: str) -> Path:
    for name, text in {
        "plugin/pyproject.toml": '[build-system]\nrequires = ["hatchling>=1.30"]\nbuild-backend = "hatchling.build"\n'
                                 '[project]\nname = "idle"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n',
        "plugin/src/idle/__init__.py": "", "plugin/src/idle/plugin.py": AGENT,
        "bundle/extension.toml": f'name = "idle"\nversion = "0.1.0"\nsummary = "An agent that does nothing."\n[environment]\n'
                                 f'wheels = ["../plugin", "{ROOT}/plugins/fuseml-sdk"]\n[[components]]\nfamily = "agent"\n'
                                 'name = "idle"\nplugin = "idle.plugin:plugin"\n',
        "bundle/requirements.lock": lock,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "bundle"


def test_r40_installing_a_cached_bundle_with_an_agent_takes_at_most_1_s_to_healthy(tmp_path):
    """Beside it in the same run: uv makes an environment out of its cache and installs the same lock into it."""
    from fuseml_sdk.environments import compile_lock

    lock = compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"])
    with tempfile.TemporaryDirectory(prefix="fz-b-") as home:
        environment = {**os.environ, "FUSEML_HOME": home, "FUSEML_PORT": "0"}

        def fuseml(*arguments: str) -> float:
            began = time.perf_counter()
            done = subprocess.run([FUSEML, *arguments], env=environment, capture_output=True, text=True, timeout=300,
                                  cwd=tmp_path, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return time.perf_counter() - began

        try:
            fuseml("bundle", "push", str(source(tmp_path, lock)))
            fuseml("extension", "install", "idle")
            times = []
            for _ in range(3):
                fuseml("extension", "uninstall", "idle")
                times.append(fuseml("extension", "install", "idle"))
        finally:
            fuseml("server", "stop", "--force")
    (tmp_path / "lock.txt").write_text(lock)
    began = time.perf_counter()
    for arguments in (["venv", "-q", str(tmp_path / "venv")],
                      ["pip", "install", "-q", "--python", str(tmp_path / "venv"), "-r", str(tmp_path / "lock.txt")]):
        subprocess.run([sys.executable, "-m", "uv", *arguments], check=True, timeout=300)
    peer = time.perf_counter() - began
    sys.stderr.write(f"\ninstall of a cached bundle with an agent: {min(times):.2f} s, uv from its cache {peer:.2f} s, "
                     f"ratio {min(times) / peer:.1f}\n")
    assert min(times) <= 1.0
