"""A change of the extensions that is killed at any durable step leaves the old generation whole, or the new one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.host.groups import ControlGroups
from fuseml_core.settings import from_environment

DIED = 77
OLD, NEW = {"base": "0.1.0", "greeter": "0.1.0"}, {"base": "0.2.0", "greeter": "0.2.0"}
CHANGES = {
    "install": ([["base:0.1.0"]], {"change": "install", "references": ["top", "greeter:0.1.0"]}, {"base": "0.1.0"},
                {"base": "0.2.0", "top": "0.1.0", "greeter": "0.1.0"}),
    "upgrade": ([["base:0.1.0", "greeter:0.1.0"]], {"change": "upgrade"}, OLD, NEW),
    "rollback": ([["base:0.1.0", "greeter:0.1.0"], ["base:0.2.0", "greeter:0.2.0"]], {"change": "rollback", "to": 1},
                 NEW, OLD),
    "uninstall": ([["top", "greeter:0.1.0"]], {"change": "uninstall", "names": ["top"]},
                  {"base": "0.2.0", "top": "0.1.0", "greeter": "0.1.0"}, {"greeter": "0.1.0"}),
}


class Zygote:
    """A process that forks children which change extensions."""

    keep = "2"

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, Path(__file__).with_name("zygote.py")], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, home: Path, place: str, database: str, do: str, **command):
        environment = {"FUSEML_HOME": str(home), "FUSEML_PORT": place.rpartition(":")[2], "FUSEML_DATABASE_URL": database,
                       "FUSEML_EXTENSION_GENERATIONS": self.keep, "FUSEML_EXTENSION_GRACE_SECONDS": "0"}
        self._process.stdin.write(json.dumps({"do": do, "environment": environment, **command}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def zygote():
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def place(world, tmp_path, lock):
    """A registry with two versions of what the changes are about."""
    for version in ("0.1.0", "0.2.0"):
        world.push(world.data_only(tmp_path / f"b{version}", "base", version))
        world.push(world.greeter(tmp_path / f"g{version}", lock, version=version, marker=version))
    world.push(world.data_only(tmp_path / "top", "top", more='[[dependencies]]\nname = "base"\nrange = ">=0.2"\n'))
    return world.place


@pytest.fixture
def home(environments):
    with tempfile.TemporaryDirectory(prefix="fz-k-") as folder:
        (Path(folder) / "home").mkdir()
        (Path(folder) / "home/policy.toml").write_text('version = 1\n[[rule]]\nmatch = "**"\naction = "allow"\n')
        (Path(folder) / "home/envs").symlink_to(environments)
        home = Path(folder) / "home"
        yield home
        # Nothing was stopped in order, so control groups are left; the plugins in them end by their lifelines.
        remembered = home / "run/control-groups"
        groups = ControlGroups(from_environment({"FUSEML_HOME": str(home)}).runtime_dir.name, remembered)
        bases = [Path(line) for line in remembered.read_text().splitlines()] if remembered.exists() else []
        end = time.monotonic() + 60
        while any(base.exists() for base in bases) and time.monotonic() < end:
            groups.clean()
            time.sleep(0.1)
        assert not any(base.exists() for base in bases)


def check(found, code, before, after, where):
    assert code == 0, where
    assert found["active"] in (before, after), where
    assert found["members"] == found["active"], where
    assert found["store"] == found["known"], f"{where}: leftovers, or files that are missing"
    assert found["work"] == {}, where
    assert found["running"] == "", where
    assert found["after"] == after, f"{where}: {found.get('again_error')}"


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CHANGES)
def test_r171_killed_at_every_durable_step(zygote, place, home, name):
    """Each step in turn, counted by a run that is left alone."""
    installs, change, before, after = CHANGES[name]
    zygote.keep = "1" if name == "uninstall" else "2"  # files that nothing needs any more go as well
    url = f"sqlite:///{home}/fuseml.db"
    assert zygote(home, place, url, "prepare", installs=installs)["code"] == 0
    saved = home.with_name("saved")
    shutil.copytree(home, saved, symlinks=True)

    def reset():
        shutil.rmtree(home)
        shutil.copytree(saved, home, symlinks=True)

    for _ in range(2):  # the first run also builds environments, which the others find
        whole = zygote(home, place, url, "change", **change)
        reset()
    assert "error" not in whole["result"]
    assert whole["steps"] >= 8
    seen = set()
    started, step = time.monotonic(), 0
    died = {"code": DIED}
    # Layers are fetched at the same time, so that a folder is made durable by one thread or by two: counts differ.
    while step < whole["steps"] or died["code"] == DIED:
        step += 1
        assert step < 2 * whole["steps"], "a run ends by itself when no step is its last"
        reset()
        died = zygote(home, place, url, "change", **change, die_at=step)
        assert died["code"] in (0, DIED), died
        looked = zygote(home, place, url, "look", again=change)
        check(looked["result"], looked["code"], before, after, f"{name} killed at step {step}")
        seen.add(json.dumps(looked["result"]["active"], sort_keys=True))
    assert len(seen) == 2, "some steps come before the switch, some after it"
    print(f"{name}: {step - 1} steps in {time.monotonic() - started:.0f} s")


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["install", "rollback"])
def test_a_sample_of_the_steps_on_postgresql(zygote, place, home, postgresql_url, name):
    installs, change, before, after = CHANGES[name]
    zygote.keep = "2"
    admin = open_database(postgresql_url).execution_options(isolation_level="AUTOCOMMIT")

    def make(database, template):
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
            connection.exec_driver_sql(f"CREATE DATABASE {database} TEMPLATE {template}")
        return postgresql_url.replace("/postgres", f"/{database}")

    url = make(f"kept_{name}", "template1")
    assert zygote(home, place, url, "prepare", installs=installs)["code"] == 0
    saved = home.with_name("saved")
    shutil.copytree(home, saved, symlinks=True)
    for _ in range(2):  # the first run also builds environments
        steps = zygote(home, place, make(f"used_{name}", f"kept_{name}"), "change", **change)["steps"]
        shutil.rmtree(home)
        shutil.copytree(saved, home, symlinks=True)
    for step in range(1, steps - 4, max(1, steps // 3)):
        shutil.rmtree(home)
        shutil.copytree(saved, home, symlinks=True)
        used = make(f"used_{name}", f"kept_{name}")
        assert zygote(home, place, used, "change", **change, die_at=step)["code"] == DIED
        looked = zygote(home, place, used, "look", again=change)
        check(looked["result"], looked["code"], before, after, f"{name} killed at step {step} on PostgreSQL")
    admin.dispose()
