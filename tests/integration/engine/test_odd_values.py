"""What programs print, people type and clocks do: nothing of it may leave a run or a request hanging."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event

from fuseml_core.domain.errors import Invalid, NotFound, Refused, Unavailable
from fuseml_core.engine import comparing
from fuseml_core.engine import progress as progress_module
from fuseml_core.engine.creation import create_run
from fuseml_sdk.errors import Retryable

TREE = {"MLproject": "a", "conda.yaml": "b", "train.py": "c"}


def add_training(workshop):
    return workshop.pipelines.add("p", "training", "training", {"code": "code://*"}, {})


def run(workshop, number=1):
    return workshop.runs.get("p", "training", number)


@pytest.mark.parametrize("text", ["before \x00 after", "half \ud83d of a pair"])
def test_a_step_that_prints_what_postgresql_refuses_fails_instead_of_running_for_ever(workshop, text):
    workshop.agent.outcome = lambda w: {"state": "failed", "message": text, "log_tail": [text], "exit_code": 1}
    add_training(workshop)
    workshop.push("app", TREE, "1")
    workshop.turn(3)
    found = run(workshop)
    assert found["state"] == "failed"
    assert "\ufffd" in found["steps"][0]["message"]
    str(found).encode()


def test_a_diverged_metric_becomes_a_warning_and_the_run_ends(workshop):
    usual = workshop.agent.outcome
    metrics = [{"key": "loss", "value": float("nan")}, {"key": "rmse", "value": 0.5}]
    workshop.agent.outcome = lambda w: {**usual(w), "metrics": metrics}
    add_training(workshop)
    workshop.push("app", TREE, "1")
    workshop.turn(6)
    found = run(workshop)
    assert found["state"] == "succeeded"
    assert [m["key"] for m in found["steps"][-1]["metrics"]] == ["rmse"]
    assert any("loss is nan" in w for w in found["steps"][-1]["warnings"])


def test_a_store_that_starts_again_delays_a_step_and_does_not_fail_it(workshop):
    add_training(workshop)
    files, failures = workshop.store.files, [Retryable("the store starts again")]

    def flaky(ref, read, max_bytes):
        if failures and max_bytes == 0:
            raise failures.pop()
        return files(ref, read, max_bytes)

    workshop.store.files = flaky
    workshop.push("app", TREE, "1")
    workshop.turn(8)
    assert not failures
    assert run(workshop)["state"] == "succeeded"


def test_a_run_whose_agent_was_removed_fails(workshop, monkeypatch):
    workshop.agent.outcome = lambda w: {"state": "running"}
    add_training(workshop)
    workshop.push("app", TREE, "1")
    workshop.turn(2)

    def gone(name):
        raise Unavailable(f"there is no workload agent {name!r}")

    monkeypatch.setattr(workshop.components, "agent", gone)
    workshop.turn(2)
    assert run(workshop)["state"] == "running", "an upgrade takes a moment"
    monkeypatch.setattr(comparing, "BROKEN_AFTER", 0.0)
    workshop.turn(6)
    assert run(workshop)["state"] == "failed"


def test_a_step_waits_no_longer_after_the_clock_was_set_back(workshop, monkeypatch):
    workshop.agent.room = 0
    add_training(workshop)
    workshop.push("app", TREE, "1")
    workshop.turn(2)
    assert run(workshop)["steps"][0]["state"] == "queued"
    workshop.agent.room = 1000
    real = time.time
    monkeypatch.setattr(progress_module.time, "time", lambda: real() - 3600.0)
    workshop.turn(6)
    assert run(workshop)["state"] == "succeeded"


def test_a_swap_during_binding_is_not_remembered_under_the_fingerprint_of_the_old_runnable(workshop, monkeypatch):
    add_training(workshop)
    workshop.catalog.add_runnable({"name": "other", "kind": "builder", "inputs": [{"name": "code", "kind": "codeset"}],
                                   "outputs": [{"name": "trainer", "kind": "runnable"}]}, digest="sha256:r2")
    choose, swapped = progress_module.workloads.choose_agent, []

    def meanwhile(components, descriptor):
        if not swapped:
            swapped.append(workshop.manual.swap("p", "training", 1, "build", "other"))
        return choose(components, descriptor)

    monkeypatch.setattr(progress_module.workloads, "choose_agent", meanwhile)
    workshop.push("app", TREE, "1")
    workshop.turn(6)
    with workshop.ledger.read() as tx:
        step = tx.steps.of_run(tx.runs.get("p", "training", 1).id)[0]
    assert step.parts["runnable"] == ["other", "sha256:r2"]


def test_ending_a_run_twice_tells_it_once(workshop):
    add_training(workshop)
    change = workshop.push("app", TREE, "1").change
    with workshop.ledger.read() as tx:
        stale = tx.runs.get("p", "training", 1)
    workshop.turn(6)
    workshop.engine._progress._end(stale)
    texts = [e["text"] for e in workshop.runs.change(change, 0, 0.0)["events"]]
    assert texts.count("training/1 succeeded") == 1


def test_a_feed_with_more_lines_than_one_answer_has_is_told_to_the_end(workshop):
    add_training(workshop)
    change = workshop.push("app", TREE, "1").change
    workshop.turn(6)
    with workshop.ledger.begin() as tx:
        for number in range(1200):
            tx.feed.add(change, "step", f"line {number}", now=1.0)
    seen, cursor, more = 0, 0, True
    while more:
        answer = workshop.runs.change(change, cursor, 0.0)
        seen, cursor, more = seen + len(answer["events"]), answer["cursor"], answer["more"]
    assert seen > 1200


def test_what_follows_may_be_longer_than_pythons_stack_and_needs_few_queries(workshop, database):
    add_training(workshop)
    workshop.push("app", TREE, "1")
    workshop.turn(6)
    with workshop.ledger.begin() as tx:
        pipeline = tx.pipelines.get("p", "training")
        code = tx.artifacts.current("codeset", "p", "app")
        for number in range(200):
            create_run(tx, pipeline, {"code": code}, {}, change="c", nonce=str(number))
    statements = []
    event.listen(database, "after_cursor_execute", lambda *a: statements.append(a[2]))
    assert len(workshop.runs.page("p", limit=1000)) == 201
    assert len(workshop.runs.results("p", current_code=True, recursive=True)) >= 1
    assert len(statements) < 40


def test_a_thousand_queued_steps_do_not_ask_a_full_agent_one_by_one(workshop):
    workshop.agent.room = 0
    add_training(workshop)
    code = workshop.push("app", TREE, "1").version
    with workshop.ledger.begin() as tx:
        pipeline = tx.pipelines.get("p", "training")
        for number in range(100):
            create_run(tx, pipeline, {"code": code}, {}, change="c", nonce=str(number), mode=None)
    asked, submit = [], workshop.agent.submit
    workshop.agent.submit = lambda workload: (asked.append(workload.name), submit(workload))[1]
    workshop.turn(1)
    asked.clear()
    workshop.turn(1)
    assert len(asked) <= 2 * progress_module.MAX_REFUSALS


def test_parameters_that_no_program_can_take_are_refused(workshop):
    add_training(workshop)
    workshop.push("app", TREE, "1")
    for value in (float("nan"), [1], {"a": 1}, None):
        with pytest.raises(Invalid, match="alpha"):
            workshop.manual.start("p", "training", {}, {"alpha": value})
    with pytest.raises(Invalid, match="too many"):
        workshop.manual.sweep("p", "training", {}, {name: list(range(100)) for name in "abcdefghij"})


def test_nothing_is_pushed_into_a_project_that_is_deleted_meanwhile(workshop, monkeypatch):
    detect = workshop.codesets.detect

    def meanwhile(*args):
        workshop.projects.delete("p", force=True)
        return detect(*args)

    monkeypatch.setattr(workshop.codesets, "detect", meanwhile)
    with pytest.raises(NotFound, match="deleted"):
        workshop.push("app", TREE, "1")
    with workshop.ledger.read() as tx:
        assert tx.artifacts.names("codeset", "p") == []


def test_a_pipeline_that_got_a_run_while_its_services_stopped_is_kept(workshop, monkeypatch):
    workshop.agent.outcome = lambda w: {"state": "running"}
    add_training(workshop)
    monkeypatch.setattr(workshop.pipelines, "_stop_services", lambda _id: (
        workshop.push("app", TREE, "1"), workshop.manual.start("p", "training", {}, {})))
    with pytest.raises(Refused):
        workshop.pipelines.remove("p", "training")
    assert workshop.pipelines.get("p", "training").state == "active"


def test_a_serving_step_that_waited_for_room_during_a_stop_of_the_server_serves_afterwards(workshop):
    add_training(workshop)
    workshop.pipelines.add("p", "serving", "serving", {"model": "model://*"}, {})
    workshop.push("app", TREE, "1")
    submit = workshop.agent.submit

    def full(workload):
        if workload.kind == "service":
            raise Retryable("no room")
        return submit(workload)

    workshop.agent.submit = full
    workshop.turn(8)
    assert workshop.runs.get("p", "serving", 1)["steps"][0]["state"] == "queued"
    workshop.serving.stop_all()
    workshop.agent.submit = submit
    time.sleep(progress_module.RETRY_AFTER)
    workshop.turn(4)
    workload = workshop.runs.get("p", "serving", 1)["steps"][0]["workload"]
    workshop.agent.report(workload, state="ready", endpoint="unix:/x")
    workshop.turn(2)
    assert workshop.runs.get("p", "serving", 1)["state"] == "succeeded"
