"""`kill -9` of everything at random moments while code is pushed: afterwards the books balance."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
#: Seconds of pushing and killing in one test.
STORM = float(os.environ.get("FUSEML_TEST_STORM", "45"))
QUIET = 90.0
FINAL = {"succeeded", "failed", "cancelled"}
#: A process of the server that dies five times a minute is not started any more, and that is meant.
MOST_DEATHS = 3


class Storm:
    """Pushes versions and kills processes of one installation; everything random follows from the seed."""

    def __init__(self, fuseml: Any, folder: Path, seed: int) -> None:
        self.fuseml, self.chance = fuseml, random.Random(seed)
        self.code, self.witness = folder / "code", folder / "witness"
        self.code.mkdir()
        self.witness.touch()
        self.pushed: list[int] = []
        self.killed: list[str] = []
        self.problems: list[str] = []
        self.deaths: dict[str, list[float]] = {}
        self.over = threading.Event()

    def prepare(self) -> None:
        """A pipeline to train and one to serve; an extension with a process of its own looks at all code."""
        self.fuseml("bundle", "push", "tests/e2e/bundles/numbers")
        self.fuseml("extension", "install", "numbers")
        self.fuseml.install("mlflow")
        self.fuseml("project", "create", "p")
        self.fuseml("project", "set", "p")
        self.fuseml("pipeline", "add", "mean-training", "--name", "training-pipeline", "--input", "code=code://*",
                    "--param", "seconds=0.7", "--param", f"witness={self.witness}")
        self.fuseml("pipeline", "add", "mean-serving", "--name", "serving-pipeline", "--input", "model=model://*")

    def push(self, number: int) -> None:
        """Push until it is taken: a person would type the command again too."""
        (self.code / "numbers.txt").write_text(f"{number}\n")
        until = time.monotonic() + 120
        while time.monotonic() < until:
            done = self.fuseml("codeset", "push", str(self.code), "--name", "myapp", code=None, timeout=120)
            if done.code == 0:
                self.pushed.append(number)
                return
            if "Traceback" in done.err:
                self.problems.append(done.err)
            time.sleep(0.3)
        self.problems.append(f"version {number} was never taken: {done.err}")

    def push_on(self) -> None:
        """One version after the other, until the storm is over."""
        number = 0
        while not self.over.is_set():
            number += 1
            self.push(number)
            time.sleep(self.chance.random())

    def kill_on(self) -> None:
        """One death after the other."""
        until = time.monotonic() + STORM
        while time.monotonic() < until:
            time.sleep(self.chance.uniform(0.2, 3.0))
            victim = self.chance.choice(["control", "control", "data", "launcher", "extension", "shim", "job",
                                         "service", "server", "term"])
            if self.strike(victim):
                self.killed.append(victim)
            if victim in ("launcher", "server", "term"):
                time.sleep(self.chance.uniform(0.0, 1.0))
                self.start()
        self.over.set()

    def start(self) -> None:
        """Start the server, which a push may be doing at the same time."""
        done = self.fuseml("server", "start", code=None, timeout=120)
        if done.code:
            self.problems.append(f"server start after {self.killed[-3:]}: {done.err}")

    def strike(self, victim: str) -> bool:
        """Kill what a word means; returns whether anything was there to be killed."""
        if victim in ("control", "data") and self.tired(victim):
            victim = "launcher"
        number = signal.SIGTERM if victim == "term" else signal.SIGKILL
        pids = {"launcher": self.server("launcher"), "term": self.server("launcher"),
                "control": self.server("control"), "data": self.server("data"),
                "server": [*self.server("launcher", "control", "data"), *self.processes("fuseml_sdk.serve")],
                "extension": self.processes("fuseml_sdk.serve"), "shim": self.one("shim/__main__.py"),
                "job": self.one("collect.py"), "service": self.one("answer.py")}[victim]
        struck = False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                struck = True
        return struck

    def tired(self, name: str) -> bool:
        """Whether a process has died so often lately that its launcher would give it up."""
        now = time.monotonic()
        lately = [at for at in self.deaths.get(name, []) if now - at < 60]
        if len(lately) >= MOST_DEATHS:
            self.deaths.clear()
            return True
        self.deaths[name] = [*lately, now]
        return False

    def server(self, *names: str) -> list[int]:
        """Ids of processes of the server that are there."""
        with contextlib.suppress(OSError, ValueError):
            known = self.fuseml.state["pids"]
            return [pid for name in names if (pid := known.get(name)) and self.is_ours(pid)]
        return []

    def is_ours(self, pid: int) -> bool:
        """Whether an id still belongs to the process it belonged to."""
        with contextlib.suppress(OSError):
            return b"fuseml_core" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def processes(self, word: str) -> list[int]:
        """Ids of processes with a word in their arguments."""
        with contextlib.suppress(OSError):
            return sorted(self.fuseml.workload_processes(word))
        return []

    def one(self, word: str) -> list[int]:
        """One of those, or none."""
        found = self.processes(word)
        return [self.chance.choice(found)] if found else []

    def rows(self, query: str) -> list[sqlite3.Row]:
        """Ask the database."""
        with contextlib.closing(sqlite3.connect(self.fuseml.home / "fz/fuseml.db", timeout=15)) as connection:
            connection.row_factory = sqlite3.Row
            return list(connection.execute(query))

    def settled(self) -> bool:
        """Whether nothing is under way any more."""
        runs = [r["state"] for r in self.rows("SELECT state FROM run")]
        instances = [r["state"] for r in self.rows("SELECT state FROM service_instance")]
        services = [r["state"] for r in self.rows("SELECT state FROM service")]
        return (set(runs) <= FINAL and not {"starting", "draining"} & set(instances)
                and set(services) <= {"ready"} and instances.count("ready") == len(services))

    def describe(self) -> str:
        """What is still under way."""
        return "\n".join(str(dict(row)) for query in (
            "SELECT s.run_id, s.name, s.state, s.attempt, s.workload, s.phase, s.message FROM step_run s",
            "SELECT state, message, restarts, run, desired FROM service",
            "SELECT workload, state, attempt, step_id FROM service_instance WHERE state NOT IN ('ended', 'failed')",
        ) for row in self.rows(query))


def _works(storm: Storm) -> dict[str, dict[str, Any]]:
    """The last status of every work directory."""
    found = {}
    for path in (storm.fuseml.home / "fz/work").glob("[!.]*"):
        with contextlib.suppress(OSError):
            found[path.name] = json.loads((path / "status.json").read_text())
    return found


def check_books(storm: Storm) -> None:
    """Every version met every trigger once; one run each; no attempt ran twice; one model per training."""
    versions = storm.rows("SELECT * FROM artifact_version")
    codes = [v for v in versions if v["kind"] == "codeset"]
    models = [v for v in versions if v["kind"] == "model"]
    assert len(codes) == len(storm.pushed), "versions of the code"
    pairs = storm.rows(
        "SELECT t.id, e.id, count(f.trigger_id) AS n FROM event e JOIN artifact_version v ON v.id = e.version_id "
        "JOIN trigger t ON t.kind = v.kind LEFT JOIN trigger_firing f ON f.trigger_id = t.id AND f.event_id = e.id "
        "GROUP BY t.id, e.id")
    assert [tuple(p) for p in pairs if p["n"] != 1] == [], "each trigger meets each version once"
    assert len(pairs) == len(codes) + len(models), "one event for each version"
    runs = storm.rows("SELECT * FROM run")
    of = {name: [r for r in runs if r["pipeline"] == f"{name}-pipeline"] for name in ("training", "serving")}
    assert len(of["training"]) == len(codes), "one run for each version of the code"
    assert len(of["serving"]) == len(models), "one run for each model"
    assert [r["number"] for r in sorted(of["training"], key=lambda r: r["id"])] == list(range(1, len(codes) + 1))
    starts = Counter(line.split()[0] for line in storm.witness.read_text().splitlines())
    assert [name for name, times in starts.items() if times > 1] == [], "no attempt is started twice"
    good = [r for r in of["training"] if r["state"] == "succeeded"]
    assert len(models) == len(good), "one model for each training"
    bad = storm.rows("SELECT r.pipeline, r.number, s.name, s.state, s.attempt, s.reason, s.message FROM step_run s "
                     "JOIN run r ON r.id = s.run_id WHERE s.state = 'failed' AND s.reason NOT IN ('Signal')")
    allowed = ("Lost",)  # four in a row, which chance may bring
    assert [dict(b) for b in bad if b["reason"] not in allowed or b["attempt"] < 4] == [], "steps fail for cause only"
    assert [tuple(r) for r in storm.rows("PRAGMA integrity_check")] == [("ok",)]
    assert storm.rows("PRAGMA foreign_key_check") == []


def check_changes(storm: Storm) -> None:
    """Every change has come to its end, as the API sees it."""
    for row in storm.rows("SELECT DISTINCT change FROM run"):
        address = f"{storm.fuseml.base_url}/api/v1/changes/{row['change']}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert json.load(answer)["state"] == "settled"


def check_service(storm: Storm, number: int) -> None:
    """The service answers with the newest model, from one process."""
    url = storm.fuseml.json("service", "get", "myapp")["url"]
    assert storm.fuseml.post(url, [1])["predictions"] == [float(number)]
    assert len(storm.processes("answer.py")) == 1, "one instance"


def check_end(storm: Storm) -> None:
    """After a stop nothing runs and no work directory says otherwise."""
    storm.fuseml("server", "stop", timeout=150)
    states = {name: status["state"] for name, status in _works(storm).items()}
    assert {name: state for name, state in states.items() if state not in FINAL} == {}
    assert storm.fuseml.workload_processes("") == [], "processes after the stop"


@pytest.fixture
def storm(fuseml, tmp_path, request) -> Storm:
    """An installation in which nothing has been pushed yet."""
    seed = int(os.environ.get("FUSEML_TEST_SEED") or random.randrange(1_000_000))
    print(f"seed {seed}: repeat with FUSEML_TEST_SEED={seed}")
    made = Storm(fuseml, tmp_path, seed)
    made.prepare()
    return made


def settle(storm: Storm) -> None:
    """Wait until nothing is under way."""
    end = time.monotonic() + QUIET
    while not storm.settled() and time.monotonic() < end:
        time.sleep(0.5)
    assert storm.settled(), storm.describe()


def finish(storm: Storm) -> None:
    """Wait for quiet, push a last version in peace, and check everything."""
    storm.start()
    settle(storm)  # the last model to be registered is served, so an older training must not end later
    last = len(storm.pushed) + 1
    storm.push(last)
    settle(storm)
    assert storm.problems == []
    check_books(storm)
    check_changes(storm)
    check_service(storm, last)
    check_end(storm)


def test_everything_is_killed_at_random(storm):
    """Nothing is lost, nothing happens twice, whatever died and when."""
    killer = threading.Thread(target=storm.kill_on)
    killer.start()
    storm.push_on()
    killer.join()
    print(f"{len(storm.pushed)} versions; killed: {', '.join(storm.killed)}")
    finish(storm)


def test_the_machine_is_switched_off_during_training(storm):
    """Everything is gone, sockets too: jobs start again as another attempt, services as they were."""
    storm.push(1)
    storm.fuseml.wait_for(storm.settled, 60, "the first service")
    for number in (2, 3):
        storm.push(number)
        storm.fuseml.wait_for(lambda: storm.processes("collect.py"), 30, "the training")
        for _ in range(3):
            for pid in storm.processes(""):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for folder in _runtime_directories(storm):
            shutil.rmtree(folder, ignore_errors=True)
        storm.start()
    finish(storm)
    attempts = storm.rows("SELECT max(attempt) AS most FROM step_run WHERE name = 'collect'")
    assert attempts[0]["most"] >= 2


def _runtime_directories(storm: Storm) -> list[Path]:
    from fuseml_core.settings import from_environment

    return [from_environment({**storm.fuseml.environment}).runtime_dir]


def test_control_is_frozen_during_training(storm):
    """Nobody mistakes it for dead: nothing is started twice, and all goes on when it wakes."""
    storm.push(1)
    storm.fuseml.wait_for(lambda: storm.processes("collect.py"), 30, "the training")
    (control,) = storm.server("control")
    os.kill(control, signal.SIGSTOP)
    try:
        time.sleep(20)
    finally:
        os.kill(control, signal.SIGCONT)
    storm.push(2)
    assert storm.server("control") == [control]
    finish(storm)
