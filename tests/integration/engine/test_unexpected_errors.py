"""An error that nobody expected rests what it met; other runs go on, and the log does not fill."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.migration import migrate

TREE = {"MLproject": "m1", "train.py": "t1"}


@pytest.fixture
def database(tmp_path):
    """SQLite alone: the errors are made by the test."""
    engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    migrate(engine)
    yield engine
    engine.dispose()


def state_of(workshop, pipeline):
    return workshop.runs.get("p", pipeline, 1)["state"]


def start_both(workshop):
    for name in ("bad", "good"):
        workshop.pipelines.add("p", "training", name, {"code": "code://*"}, {})
    workshop.push("app", TREE, "1")


def until(holds):
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


def test_a_run_that_the_database_refuses_rests_and_another_one_succeeds(workshop, monkeypatch):
    progress = workshop.engine._progress
    usual = progress._advance_run

    def refusing(run, pipeline, steps):
        if run.pipeline == "bad":
            raise ValueError("the database refuses this row")
        return usual(run, pipeline, steps)

    monkeypatch.setattr(progress, "_advance_run", refusing)
    start_both(workshop)
    with capture_logs() as lines:
        workshop.turn(8)
    assert (state_of(workshop, "good"), state_of(workshop, "bad")) == ("succeeded", "running")
    assert len([line for line in lines if line.get("exc_info")]) == 1

    monkeypatch.setattr(progress, "_advance_run", usual)
    until(lambda: workshop.turn() or state_of(workshop, "bad") == "succeeded")


def test_a_report_that_cannot_be_taken_in_is_kept_and_tried_again_after_a_pause(workshop, monkeypatch):
    completion, tried = workshop.engine._completion, []
    usual = completion.report

    def refusing(step, run, pipeline, status):
        if run.pipeline == "bad":
            tried.append(status.name)
            raise ValueError("the database refuses this row")
        return usual(step, run, pipeline, status)

    monkeypatch.setattr(completion, "report", refusing)
    start_both(workshop)
    workshop.engine.start()
    until(lambda: state_of(workshop, "good") == "succeeded")
    for _ in range(200):
        workshop.engine.wake()
        time.sleep(0.002)
    assert len(tried) < 20, "a loop that is woken again and again does not try it each time"

    monkeypatch.setattr(completion, "report", usual)
    until(lambda: state_of(workshop, "bad") == "succeeded")
