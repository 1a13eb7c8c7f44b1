"""Agents and stores that hang hold up their own steps alone, and nothing is given to an agent twice."""

from __future__ import annotations

import threading
import time

import pytest

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.engine import asking, comparing
from fuseml_core.engine import reconciler as reconciler_module
from fuseml_sdk.errors import Retryable
from fuseml_sdk.types import AgentDescription, WorkloadEvents

TREE = {"MLproject": "m1", "train.py": "t1"}
MODEL = {"name": "model", "kind": "model", "location": {"uri": "file:///w/words"}}


@pytest.fixture
def database(tmp_path):
    """SQLite alone: what hangs does not depend on the database."""
    engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    migrate(engine)
    yield engine
    engine.dispose()


class Hanging:
    """Hangs in one call, as soon as a test says so, until it is released."""

    def __init__(self) -> None:
        self.begun, self.released, self.calls = threading.Event(), threading.Event(), 0

    def __call__(self) -> None:
        self.calls += 1
        self.begun.set()
        if not self.released.wait(120):
            raise Retryable("no answer in time")


class Slow:
    """A scripted agent beside the usual one; the runnable `trainer` runs at it."""

    def __init__(self, usual):
        self.inner, self.hangs_in, self.hang = type(usual)(), "", Hanging()
        self.inner.outcome = lambda _workload: {"state": "succeeded", "outputs": [MODEL]}

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def events(self, cursor, wait):
        return WorkloadEvents(cursor=cursor)

    def describe(self):
        if self.hangs_in == "describe":
            self.hang()
        return AgentDescription(name="slow", kinds=["job"], environments=["python"], schemes=["file"],
                                capabilities={"slow": "yes"})

    def submit(self, workload):
        if self.hangs_in == "submit":
            self.hang()
        return self.inner.submit(workload)


@pytest.fixture
def slow(workshop, monkeypatch):
    """The agent that runs the step `train` of the pipeline `words`; nothing has been pushed."""
    monkeypatch.setattr(asking, "AT_ONCE", 0.2)
    agent, usual = Slow(workshop.agent), workshop.agent
    known = [("scripted", usual), ("slow/slow", agent)]
    monkeypatch.setattr(workshop.components, "agents", lambda: known)
    monkeypatch.setattr(workshop.components, "agent", lambda name: dict(known)[name])
    workshop.catalog.add_runnable({"name": "trainer", "kind": "trainer", "capabilities": {"slow": "yes"},
                                   "inputs": [{"name": "code", "kind": "codeset"}],
                                   "outputs": [{"name": "model", "kind": "model"}]})
    workshop.catalog.add_template({
        "name": "words", "inputs": {"code": {"kind": "codeset"}},
        "steps": {"train": {"runnable": "trainer", "inputs": {"code": "inputs.code"}}},
        "outputs": {"model": {"from": "train.model"}}})
    workshop.pipelines.add("p", "words", "words", {"code": "code://app"}, {})
    workshop.pipelines.add("p", "training", "good", {"code": "code://other"}, {})
    yield agent
    agent.hang.released.set()


def until(holds):
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holds()


def turns_until(workshop, holds):
    until(lambda: workshop.turn() or holds())


def state_of(workshop, pipeline):
    return workshop.runs.get("p", pipeline, 1)["state"]


def good_ends(workshop):
    workshop.push("other", TREE, "2")
    turns_until(workshop, lambda: state_of(workshop, "good") == "succeeded")


@pytest.mark.parametrize("hook", ["submit", "describe"])
def test_an_agent_that_hangs_while_it_is_given_work_holds_up_its_own_steps_alone(workshop, slow, hook):
    slow.hangs_in = hook
    workshop.push("app", TREE, "1")
    turns_until(workshop, slow.hang.begun.is_set)
    good_ends(workshop)
    assert (state_of(workshop, "words"), slow.hang.released.is_set()) == ("running", False)
    slow.hangs_in = ""
    slow.hang.released.set()
    turns_until(workshop, lambda: state_of(workshop, "words") == "succeeded")
    assert [workload.labels["step"] for workload in slow.inner.submitted] == ["train"]


def test_an_agent_that_hangs_is_given_nothing_else_meanwhile(workshop, slow):
    slow.hangs_in = "submit"
    for number in range(3, 9):
        workshop.push("app", {**TREE, "train.py": f"t{number}"}, str(number))
    turns_until(workshop, slow.hang.begun.is_set)
    good_ends(workshop)
    assert slow.hang.calls == 1
    slow.hangs_in = ""
    slow.hang.released.set()
    turns_until(workshop, lambda: all(r["state"] == "succeeded" for r in workshop.runs.page("p", limit=50)))
    names = [workload.name for workload in slow.inner.submitted]
    assert len(names) == len(set(names)) == 6


def test_a_run_that_is_cancelled_while_its_agent_hangs_leaves_no_workload_behind(workshop, slow):
    slow.hangs_in = "submit"
    slow.inner.outcome = lambda _workload: {"state": "running"}
    workshop.push("app", TREE, "1")
    turns_until(workshop, slow.hang.begun.is_set)
    workshop.runs.cancel("p", "words", 1)
    workshop.turn(2)
    slow.hangs_in = ""
    slow.hang.released.set()
    turns_until(workshop, lambda: state_of(workshop, "words") == "cancelled")
    turns_until(workshop, lambda: [s.state for s in slow.inner.states.values()] in ([], ["cancelled"]))
    workshop.turn(2)
    assert "running" not in {s.state for s in slow.inner.states.values()}


def test_a_server_that_ends_while_an_agent_hangs_gives_the_work_again_as_the_same_workload(workshop, slow):
    slow.hangs_in = "submit"
    workshop.push("app", TREE, "1")
    turns_until(workshop, slow.hang.begun.is_set)
    slow.hangs_in = ""
    workshop.engine = workshop.make_engine()
    turns_until(workshop, lambda: state_of(workshop, "words") == "succeeded")
    slow.hang.released.set()
    until(lambda: not [t for t in threading.enumerate() if "starting at slow" in t.name])
    assert [workload.labels["step"] for workload in slow.inner.submitted] == ["train"]
    assert workshop.runs.get("p", "words", 1)["steps"][0]["attempt"] == 1


def test_a_store_that_hangs_over_outputs_holds_up_their_step_alone(workshop, slow, monkeypatch):
    usual, hang = workshop.store.register, Hanging()

    def register(request):
        if request.kind == "model" and request.source.uri == MODEL["location"]["uri"]:
            hang()
        return usual(request)

    monkeypatch.setattr(workshop.store, "register", register)
    workshop.push("app", TREE, "1")
    turns_until(workshop, hang.begun.is_set)
    good_ends(workshop)
    assert (state_of(workshop, "words"), hang.calls) == ("running", 1)
    hang.released.set()
    turns_until(workshop, lambda: state_of(workshop, "words") == "succeeded")
    assert (hang.calls, workshop.runs.get("p", "words", 1)["steps"][0]["attempt"]) == (1, 1)


def test_a_success_whose_outputs_take_long_is_not_lost_when_the_agent_forgets_it(workshop, slow, monkeypatch):
    usual, hang = workshop.store.register, Hanging()

    def register(request):
        if request.kind == "model":
            hang()
        return usual(request)

    monkeypatch.setattr(workshop.store, "register", register)
    workshop.push("app", TREE, "1")
    turns_until(workshop, hang.begun.is_set)
    slow.inner.states.clear()
    monkeypatch.setattr(comparing, "LOST_AFTER", 0.0)
    workshop.turn(5)
    hang.released.set()
    turns_until(workshop, lambda: state_of(workshop, "words") == "succeeded")
    assert (len(slow.inner.submitted), workshop.runs.get("p", "words", 1)["steps"][0]["attempt"]) == (1, 1)


def test_a_service_whose_agent_takes_long_to_start_it_again_gets_one_instance(workshop, monkeypatch):
    workshop.pipelines.add("p", "training", "train", {"code": "code://*"}, {})
    workshop.pipelines.add("p", "serving", "serve", {"model": "model://*"}, {})
    workshop.push("app", TREE, "1")
    turns_until(workshop, lambda: [s["state"] for s in workshop.services.all("p")] == ["ready"])
    agent, hang, usual = workshop.agent, Hanging(), workshop.agent.submit
    first = agent.submitted[-1].name

    def submit(workload):
        if not hang.released.is_set():
            hang()
        return usual(workload)

    monkeypatch.setattr(asking, "AT_ONCE", 0.2)
    monkeypatch.setattr(comparing, "LOST_AFTER", 0.0)
    monkeypatch.setattr(agent, "submit", submit)
    agent.report(first, state="failed", message="crashed")
    turns_until(workshop, hang.begun.is_set)
    workshop.turn(5)
    hang.released.set()
    turns_until(workshop, lambda: [s["state"] for s in workshop.services.all("p")] == ["ready"])
    workshop.turn(5)
    assert len([w for w in agent.submitted if w.kind == "service"]) == 2, "it started once more, and was waited for"
    assert len([status for status in agent.states.values() if status.state == "ready"]) == 1
    assert workshop.services.get("p", "app")["instance"] == agent.submitted[-1].name


def test_a_store_that_hangs_over_inputs_holds_up_no_other_project_at_the_same_agent(workshop, slow, monkeypatch):
    usual, hang = workshop.store.locate, Hanging()

    def locate(ref, accepts):
        if ref.project == "p":
            hang()
        return usual(ref, accepts)

    monkeypatch.setattr(workshop.store, "locate", locate)
    for number in range(3, 9):
        workshop.push("app", {**TREE, "train.py": f"t{number}"}, str(number))
    turns_until(workshop, hang.begun.is_set)
    workshop.projects.create("q")
    workshop.pipelines.add("q", "words", "words", {"code": "code://app"}, {})
    workshop.push("app", TREE, "1", project="q")
    turns_until(workshop, lambda: workshop.runs.get("q", "words", 1)["state"] == "succeeded")
    assert state_of(workshop, "words") == "running"
    hang.released.set()
    turns_until(workshop, lambda: all(r["state"] == "succeeded" for r in workshop.runs.page("p", limit=50)))
    names = [workload.name for workload in slow.inner.submitted]
    assert len(names) == len(set(names)) == 7


def test_a_run_that_is_cancelled_while_a_store_hangs_over_its_outputs_ends_without_them(workshop, slow, monkeypatch):
    usual, hang = workshop.store.register, Hanging()

    def register(request):
        if request.kind == "model":
            hang()
        return usual(request)

    monkeypatch.setattr(workshop.store, "register", register)
    workshop.push("app", TREE, "1")
    turns_until(workshop, hang.begun.is_set)
    workshop.runs.cancel("p", "words", 1)
    workshop.turn(3)
    assert state_of(workshop, "words") == "running", "the store may only be slow"
    monkeypatch.setattr(reconciler_module, "STUBBORN_AFTER", 0.0)
    turns_until(workshop, lambda: state_of(workshop, "words") == "cancelled")
    registering = [thread for thread in threading.enumerate() if "registering" in thread.name]
    hang.released.set()
    until(lambda: not any(thread.is_alive() for thread in registering))
    workshop.turn(3)
    assert state_of(workshop, "words") == "cancelled"
    with workshop.ledger.read() as tx:
        assert tx.artifacts.current("model", "p", "app") is None
