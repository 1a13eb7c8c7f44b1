"""Failed, lost and cancelled workloads; a control process that comes back."""

from __future__ import annotations

from fuseml_sdk.types import WorkloadStatus

TREE = {"MLproject": "m1", "train.py": "t1"}


def start(shop):
    shop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    shop.push("app", TREE, "a")


def holding(shop, kind, **held):
    """Let workloads of one kind stay in a state until the test reports."""
    usual = shop.agent.outcome
    shop.agent.outcome = lambda w: {"state": "running", **held} if w.runnable.kind == kind else usual(w)
    return usual


def test_r112_a_failed_step_ends_the_run_with_exit_code_and_log(workshop):
    """The next push works all the same."""
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "failed", "exit_code": 3, "message": "exited with code 3",
                                        "log_tail": ["boom"]} if w.runnable.kind == "trainer" else usual(w)
    start(workshop)
    workshop.turn(4)

    run = workshop.runs.get("p", "training-pipeline", 1)
    assert (run["state"], run["steps"][1]["exit_code"], run["steps"][1]["log_tail"]) == ("failed", 3, ["boom"])

    workshop.agent.outcome = usual
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(4)
    assert workshop.runs.get("p", "training-pipeline", 2)["state"] == "succeeded"


def test_r112_a_lost_workload_is_started_again_under_a_new_name(workshop):
    """A reboot loses workloads; the step takes another attempt, at most three."""
    usual = holding(workshop, "trainer")
    start(workshop)
    workshop.turn(3)
    first = workshop.agent.submitted[-1].name

    workshop.agent.outcome = usual
    workshop.agent.report(first, state="failed", reason="Lost", message="its supervisor is gone")
    workshop.turn(4)

    step = workshop.runs.get("p", "training-pipeline", 1)["steps"][1]
    assert (step["state"], step["attempt"]) == ("succeeded", 2)
    assert workshop.agent.submitted[-1].name != first


def test_r112_another_control_process_goes_on_where_the_last_one_was(workshop):
    """Nothing is started twice: the workload that runs is found by its name."""
    usual = holding(workshop, "trainer")
    start(workshop)
    workshop.turn(3)
    submitted = len(workshop.agent.submitted)

    workshop.engine = workshop.make_engine()
    workshop.turn(2)
    name = workshop.agent.submitted[-1].name
    done = WorkloadStatus.model_validate({"name": name, **usual(workshop.agent.submitted[-1])})
    workshop.agent.report(name, state=done.state, outputs=done.outputs)
    workshop.turn(3)

    assert len(workshop.agent.submitted) == submitted
    assert workshop.runs.get("p", "training-pipeline", 1)["state"] == "succeeded"


def test_r112_a_late_report_of_an_earlier_attempt_changes_nothing(workshop):
    """Attempts are fenced by name."""
    holding(workshop, "trainer")
    start(workshop)
    workshop.turn(3)
    first = workshop.agent.submitted[-1].name
    workshop.agent.report(first, state="failed", reason="Lost")
    workshop.turn(3)

    workshop.agent.report(first, state="succeeded")
    workshop.turn(2)

    step = workshop.runs.get("p", "training-pipeline", 1)["steps"][1]
    assert (step["state"], step["attempt"]) == ("running", 2)


def test_r112_cancelling_stops_what_runs_and_skips_what_waits(workshop):
    """Running workloads are asked to stop."""
    holding(workshop, "builder")
    start(workshop)
    workshop.turn(2)

    workshop.runs.cancel("p", "training-pipeline", 1)
    workshop.turn(3)

    run = workshop.runs.get("p", "training-pipeline", 1)
    assert run["state"] == "cancelled"
    assert [s["state"] for s in run["steps"]] == ["cancelled", "skipped"]


def test_r55_a_full_agent_makes_the_step_wait_with_the_reason(workshop):
    """The step stays queued and says what it waits for, then starts."""
    workshop.agent.room = 0
    start(workshop)
    workshop.turn(2)
    step = workshop.runs.get("p", "training-pipeline", 1)["steps"][0]
    assert (step["state"], step["phase"]) == ("queued", "waiting: 0 jobs run")

    workshop.agent.room = 10
    with workshop.ledger.begin() as tx:
        found = tx.steps.of_run(tx.runs.get("p", "training-pipeline", 1).id)[0]
        tx.steps.change(found.id, ["queued"], 1, not_before=0.0)
    workshop.turn(5)

    assert workshop.runs.get("p", "training-pipeline", 1)["state"] == "succeeded"
