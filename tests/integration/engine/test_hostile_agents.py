"""Agents that answer oddly or lie: each ends in a bounded, explained state, nothing spins, and no other run suffers."""

from __future__ import annotations

import threading
import time

import pytest
from structlog.testing import capture_logs

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.engine import comparing
from fuseml_core.engine import reconciler as reconciler_module
from fuseml_core.engine.hearing import LONGEST_CURSOR, MOST_WAITING
from fuseml_sdk.errors import Internal
from fuseml_sdk.types import AgentDescription, LogChunk, WorkloadEvents, WorkloadStatus

TREE = {"MLproject": "m1", "train.py": "t1"}


@pytest.fixture
def database(tmp_path):
    """SQLite alone: what agents answer does not depend on the database."""
    engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    migrate(engine)
    yield engine
    engine.dispose()


class Agents:
    """Agents by name; the runnable `trainer` runs at `hostile/bad`, everything else at the scripted one."""

    def __init__(self, workshop, bad):
        self.usual, self.bad = workshop.agent, bad

    def agents(self):
        return [("scripted", self.usual), ("hostile/bad", self.bad)]

    def agent(self, name):
        return dict(self.agents())[name]


class Scripted:
    """A scripted agent under another name, of which a test changes what it likes."""

    def __init__(self, usual):
        self.inner = type(usual)()
        self.inner.outcome = lambda _workload: {"state": "running"}

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def events(self, cursor, wait):
        """Says nothing by itself, so that what a test sees comes from what it lets it answer."""
        return WorkloadEvents(cursor=cursor)

    def describe(self):
        return AgentDescription(name="bad", kinds=["job"], environments=["python"], schemes=["file"],
                                capabilities={"bad": "yes"})


@pytest.fixture
def bad(workshop, monkeypatch):
    """The agent that runs the step `train` of the pipeline `words`; its run has been started."""
    agent = Scripted(workshop.agent)
    agents = Agents(workshop, agent)
    monkeypatch.setattr(workshop.components, "agents", agents.agents)
    monkeypatch.setattr(workshop.components, "agent", agents.agent)
    workshop.catalog.add_runnable({"name": "trainer", "kind": "trainer", "capabilities": {"bad": "yes"},
                                   "inputs": [{"name": "code", "kind": "codeset"}],
                                   "outputs": [{"name": "model", "kind": "model"},
                                               {"name": "report", "kind": "value", "optional": True}]})
    workshop.catalog.add_template({
        "name": "words", "inputs": {"code": {"kind": "codeset"}},
        "steps": {"train": {"runnable": "trainer", "inputs": {"code": "inputs.code"}}},
        "outputs": {"model": {"from": "train.model"}}})
    workshop.pipelines.add("p", "words", "words", {"code": "code://*"}, {})
    workshop.push("app", TREE, "1")
    workshop.turn(2)
    agent.job = agent.inner.submitted[0].name
    return agent


def step_of(workshop):
    return workshop.runs.get("p", "words", 1)["steps"][0]


def good(workshop):
    """Another run, at another agent, ends meanwhile."""
    workshop.pipelines.add("p", "training", "good", {"code": "code://*"}, {})
    workshop.push("other", {**TREE, "train.py": "t2"}, "2")
    workshop.turn(6)
    runs = [run for run in workshop.runs.page("p", limit=50) if run["pipeline"] == "good"]
    assert runs
    assert {run["state"] for run in runs} == {"succeeded"}


MODEL = {"name": "model", "kind": "model", "location": {"uri": "file:///w/a"}}


def until(holds):
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert holds()


# -- workloads that are not reported -------------------------------------------------------------------------------


def others(names):
    return [WorkloadStatus(name=f"not-{name}", state="succeeded") for name in names]


def forgotten(names):
    return [WorkloadStatus(name=name, state="unknown") for name in names]


def breaking(names):
    raise Internal("its answer is no list of statuses")


@pytest.mark.parametrize(("answer", "words"), [
    (others, "extension hostile (agent bad) does not report words/1 train"),
    (lambda names: [], "extension hostile (agent bad) does not report words/1 train"),
    (forgotten, "extension hostile (agent bad) does not know words/1 train"),
    (breaking, "does not say as the contract asks how words/1 train is: its answer is no list of statuses"),
])
def test_r112_a_workload_that_its_agent_does_not_report_is_lost_by_one_rule(workshop, bad, monkeypatch, answer, words):
    bad.status = answer
    workshop.turn(2)
    assert step_of(workshop)["state"] == "running"
    assert words in step_of(workshop)["phase"]
    good(workshop)

    monkeypatch.setattr(comparing, "LOST_AFTER", 0.0)
    monkeypatch.setattr(comparing, "BROKEN_AFTER", 0.0)
    workshop.turn(10)
    step = step_of(workshop)
    assert (step["state"], step["reason"], step["attempt"]) == ("failed", "Lost", 4)
    assert words in step["message"]
    assert workshop.runs.get("p", "words", 1)["state"] == "failed"
    assert {status.state for status in bad.inner.states.values()} == {"cancelled"}, "no attempt goes on beside another"


def test_r112_an_agent_that_reports_again_in_time_loses_nothing(workshop, bad):
    usual, bad.status = bad.status, others
    workshop.turn(2)
    assert "does not report" in step_of(workshop)["phase"]
    bad.status = usual
    bad.inner.report(bad.job, state="succeeded", outputs=[])
    bad.inner.states[bad.job] = WorkloadStatus.model_validate({"name": bad.job, "state": "succeeded", "outputs": [MODEL]})
    workshop.turn(2)
    assert (step_of(workshop)["state"], step_of(workshop)["attempt"]) == ("succeeded", 1)


def test_an_agent_that_hangs_holds_up_no_other_run_and_its_step_says_so(workshop, bad, monkeypatch):
    release, asked = threading.Event(), []
    monkeypatch.setattr(reconciler_module, "ANSWER_WAIT", 0.01)

    def hanging(names):
        asked.append(names)
        release.wait(60)
        return [WorkloadStatus(name=name, state="running", phase="training") for name in names]

    bad.status = hanging
    good(workshop)
    assert len(asked) == 1, "it is not asked again before it has answered"
    release.set()
    until(lambda: workshop.turn() or step_of(workshop)["phase"] == "training")


def test_an_agent_reports_nothing_about_the_workloads_of_others(workshop, bad):
    workshop.agent.outcome = lambda workload: {"state": "running"}
    workshop.pipelines.add("p", "training", "good", {"code": "code://*"}, {})
    workshop.push("app", {**TREE, "train.py": "t2"}, "2")
    workshop.turn(2)
    job = workshop.agent.submitted[-1].name
    lie = WorkloadStatus(name=job, state="failed", message="a lie")
    workshop.engine._hearing._keep("hostile/bad", [lie])
    bad.status = lambda names: [lie, *(WorkloadStatus(name=name, state="running") for name in names)]
    workshop.turn(2)
    with workshop.ledger.read() as tx:
        assert tx.steps.by_workload(job).state == "running"


def test_statuses_of_ten_thousand_workloads_that_nobody_asked_for_cost_little(workshop, bad):
    for turn in range(3):
        workshop.engine._hearing._keep("hostile/bad", (
            WorkloadStatus(name=f"invented-{turn}-{number}", state="running") for number in range(2 * MOST_WAITING)))
    assert len(workshop.engine._hearing._reports["hostile/bad"]) == MOST_WAITING
    looked = []
    with workshop.ledger.read() as tx:
        steps = type(tx.steps)
    usual = steps.by_workload
    steps.by_workload = lambda self, name: (looked.append(name), usual(self, name))[1]
    try:
        workshop.engine._drain_reports()
    finally:
        steps.by_workload = usual
    assert len(looked) <= reconciler_module.MOST_STRAYS
    good(workshop)


# -- statuses that contradict each other ---------------------------------------------------------------------------


def test_statuses_that_repeat_or_go_back_in_time_change_nothing(workshop, bad):
    done = WorkloadStatus.model_validate({"name": bad.job, "state": "succeeded", "outputs": [MODEL]})
    cancelled = []
    bad.cancel = lambda name, grace: (cancelled.append(name), WorkloadStatus(name=name, state="running"))[1]
    bad.status = lambda names: [done] * 50
    workshop.turn(2)
    assert step_of(workshop)["state"] == "succeeded"
    registered = len(workshop.store.registered)
    bad.status = lambda names: [WorkloadStatus(name=bad.job, state="running")]
    with capture_logs() as lines:
        for _ in range(100):
            workshop.engine._hearing._keep("hostile/bad", [WorkloadStatus(name=bad.job, state="running")])
            workshop.engine._drain_reports()
    workshop.turn(2)
    assert workshop.runs.get("p", "words", 1)["state"] == "succeeded"
    assert len(workshop.store.registered) == registered
    assert 1 <= len(cancelled) < 10, "what goes on after its end is told to end, with growing pauses"
    assert len(lines) < 10


def test_a_cancelled_workload_that_goes_on_ends_its_run_and_is_told_again(workshop, bad):
    asked = []
    bad.cancel = lambda name, grace: (asked.append(name), WorkloadStatus(name=name, state="cancelled"))[1]
    workshop.runs.cancel("p", "words", 1)
    workshop.turn(3)
    assert workshop.runs.get("p", "words", 1)["state"] == "cancelled"
    workshop.engine._hearing._keep("hostile/bad", [WorkloadStatus(name=bad.job, state="running")])
    workshop.turn(1)
    until(lambda: len(asked) == 2)


@pytest.mark.parametrize(("answer", "words"), [
    (lambda name, grace: WorkloadStatus(name=name, state="running"), "has not ended it yet"),
    (lambda name, grace: WorkloadStatus(name="other", state="cancelled"), "answers about another workload"),
    (lambda name, grace: breaking([name]), "does not end it: its answer is no list of statuses"),
])
def test_a_workload_that_its_agent_does_not_end_is_cancelled_all_the_same_after_a_while(workshop, bad, monkeypatch,
                                                                                        answer, words):
    asked = []
    bad.cancel = lambda name, grace: (asked.append(name), answer(name, grace))[1]
    workshop.runs.cancel("p", "words", 1)
    for _ in range(20):
        workshop.engine._cancel_requested()
    assert words in step_of(workshop)["phase"]
    assert len(asked) < 5, "it is not asked at every turn"
    monkeypatch.setattr(reconciler_module, "STUBBORN_AFTER", 0.0)
    workshop.turn(2)
    assert workshop.runs.get("p", "words", 1)["state"] == "cancelled"
    assert "it may go on" in step_of(workshop)["message"]


def test_a_log_that_is_never_complete_ends_a_while_after_its_step(workshop, bad, monkeypatch):
    bad.logs = lambda name, cursor, limit: LogChunk(text="", cursor="1", complete=False)
    bad.inner.states[bad.job] = WorkloadStatus(name=bad.job, state="failed")
    workshop.turn(3)
    assert not workshop.runs.logs("p", "words", 1, "train", "0:1", 100)["complete"]
    monkeypatch.setattr("fuseml_core.service.runs.LATE_LOG", 0.0)
    assert workshop.runs.logs("p", "words", 1, "train", "0:1", 100)["complete"]


def test_a_queued_step_is_cancelled_whatever_its_agent_says_of_it(workshop, bad):
    bad.inner.room = 0
    workshop.push("app", {**TREE, "train.py": "t2"}, "2")
    workshop.turn(2)
    assert workshop.runs.get("p", "words", 2)["steps"][0]["state"] == "queued"
    bad.status, bad.cancel = (lambda names: []), lambda name, grace: WorkloadStatus(name="other", state="running")
    workshop.runs.cancel("p", "words", 2)
    workshop.turn(2)
    assert workshop.runs.get("p", "words", 2)["state"] == "cancelled"


@pytest.mark.parametrize("answer", [others, lambda names: []])
def test_the_server_says_that_a_workload_which_is_not_reported_may_go_on_without_it(workshop, bad, monkeypatch, answer):
    monkeypatch.setattr(reconciler_module, "END_TIMEOUT", 0.3)
    bad.status = answer
    left = workshop.engine.stop_workloads(cancel_jobs=True)
    assert [(one["name"], one["reason"]) for one in left] == [("words/1 train", "its agent does not report it")]


# -- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outputs", "reason", "words"), [
    ([], "MissingOutput", "the step train ended well but gave no output 'model', which trainer declares"),
    ([MODEL, MODEL], "InvalidOutput", "'model' 2 times"),
])
def test_r43_r58_outputs_that_are_missing_or_not_as_declared_fail_the_step(workshop, bad, outputs, reason, words):
    done = {"name": bad.job, "state": "succeeded", "outputs": outputs}
    bad.inner.states[bad.job] = WorkloadStatus.model_validate(done)
    workshop.turn(3)
    step = step_of(workshop)
    assert (step["state"], step["reason"]) == ("failed", reason)
    assert words in step["message"]
    assert workshop.runs.get("p", "words", 1)["state"] == "failed"
    assert [request.kind for request in workshop.store.registered] == ["codeset"], "nothing of it is registered"


def test_r43_an_optional_output_may_be_missing_and_one_that_nobody_declared_is_left_out_with_a_warning(workshop, bad):
    done = {"name": bad.job, "state": "succeeded", "outputs": [{**MODEL, "artifact_name": "/../x"}, {**MODEL, "name": "y"}]}
    bad.inner.states[bad.job] = WorkloadStatus.model_validate(done)
    workshop.turn(3)
    step = step_of(workshop)
    assert step["state"] == "succeeded"
    assert step["warnings"] == ["the output 'y' was left out: trainer does not declare it"]
    assert [request.name for request in workshop.store.registered[1:]] == ["x"]


@pytest.mark.parametrize("times", [{"started_at": -5.0, "ended_at": -1.0}, {"ended_at": 200_000_000_000.0},
                                   {"started_at": 9e9, "ended_at": 1.0}])
def test_times_that_cannot_be_do_not_show_as_negative_or_endless_durations(workshop, bad, times):
    done = {"name": bad.job, "state": "succeeded", "outputs": [MODEL], **times}
    bad.inner.states[bad.job] = WorkloadStatus.model_validate(done)
    workshop.turn(3)
    step = step_of(workshop)
    assert step["started_at"] <= step["ended_at"] <= time.time()
    texts = [e["text"] for e in workshop.runs.change(workshop.runs.get("p", "words", 1)["change"], 0, 0.0)["events"]]
    assert not [text for text in texts if "in -" in text or "e+" in text]


# -- events --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", [str, lambda n: str(n % 3), lambda n: "x" * (LONGEST_CURSOR + n)])
def test_events_that_never_end_or_jump_back_do_not_keep_the_server_busy(workshop, bad, cursor):
    hearing, asked = workshop.engine._hearing, []

    def events(given, wait):
        asked.append(given)
        return WorkloadEvents(statuses=[WorkloadStatus(name=bad.job, state="running", phase=f"phase {len(asked)}")],
                              cursor=cursor(len(asked)))

    waited = []
    bad.events = events
    hearing._stop = type("Stop", (), {"is_set": lambda self: len(asked) >= 200,
                                      "wait": lambda self, seconds: waited.append(seconds)})()
    hearing._needed = {"hostile/bad"}
    hearing._hear_while_needed("hostile/bad", bad)
    assert sum(seconds > 0.1 for seconds in waited) >= 170, "after a burst it is asked five times a second"
    assert max(len(given) for given in asked) <= LONGEST_CURSOR


def test_phases_that_never_end_do_not_fill_the_feed(workshop, bad, monkeypatch):
    monkeypatch.setattr("fuseml_core.engine.completion.MOST_PHASES", 5)
    for number in range(20):
        workshop.engine._take("hostile/bad", WorkloadStatus(name=bad.job, state="running", phase=f"phase {number}"))
    assert step_of(workshop)["phase"] == "phase 19"
    texts = [e["text"] for e in workshop.runs.change(workshop.runs.get("p", "words", 1)["change"], 0, 0.0)["events"]]
    assert sum("phase " in text for text in texts) <= 5


def test_a_description_that_changes_each_time_ends_the_step_or_lets_it_run(workshop, bad):
    told = []

    def describe():
        told.append(None)
        kinds = [["job"], ["service"], []][len(told) % 3]
        return AgentDescription(name=f"bad{len(told)}", kinds=kinds, environments=["python"], schemes=["file"],
                                capabilities={"bad": "yes"}, events_interval=-float(len(told)))

    bad.describe = describe
    bad.inner.outcome = lambda _workload: {"state": "succeeded", "outputs": [MODEL]}
    for number in range(2, 6):
        workshop.push("app", {**TREE, "train.py": f"t{number}"}, str(number))
        workshop.turn(3)
    states = {run["name"]: run for run in workshop.runs.page("p", limit=50)}
    ended = [run["state"] for name, run in states.items() if name != "words/1"]
    assert set(ended) <= {"succeeded", "failed"}
    assert len(told) < 100
