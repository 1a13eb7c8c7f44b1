"""What the engine finds after a crash between two of its steps, or an agent without room."""

from __future__ import annotations

import time

from fuseml_core.domain.records import InstanceState, StepState
from fuseml_sdk.errors import NotReady

TREE = {"MLproject": "m1", "train.py": "t1"}


def pipelines(shop):
    shop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    shop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://*"}, {})


def test_r109_an_instance_that_waits_for_room_is_not_taken_for_lost(workshop):
    """The agent does not know it yet, and that is no failure: it is served as soon as there is room."""
    pipelines(workshop)
    usual = workshop.agent.submit

    def full(workload):
        if workload.kind == "service":
            raise NotReady("too little memory is free")
        return usual(workload)

    workshop.agent.submit = full
    workshop.push("app", TREE, "a")
    workshop.turn(8)
    with workshop.ledger.read() as tx:
        assert [i.state for i in tx.services.instances()] == [InstanceState.STARTING]

    workshop.agent.submit = usual
    time.sleep(0.6)  # until the agent is asked again
    workshop.turn(4)

    assert workshop.services.get("p", "app")["state"] == "ready"
    assert workshop.runs.get("p", "serving-pipeline", 1)["state"] == "succeeded"


def test_an_instance_whose_end_was_recorded_but_not_asked_for_is_ended(workshop):
    """A crash between the two leaves a process that nobody would ever stop; a new start finds it."""
    pipelines(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)
    old = workshop.services.get("p", "app")["instance"]
    with workshop.ledger.begin() as tx:
        tx.services.set_instance(tx.services.instance_by_workload(old).id, state=InstanceState.ENDED)

    workshop.engine = workshop.make_engine()  # an agent tells a new listener of everything it has
    workshop.turn(2)
    time.sleep(0.5)
    workshop.turn(2)

    assert workshop.agent.states[old].state == "cancelled"
    assert workshop.services.get("p", "app")["instance"] != old
    assert workshop.services.get("p", "app")["state"] == "ready"


def test_a_job_whose_step_was_cancelled_while_the_server_was_away_is_ended(workshop):
    """It was handed to the agent, the note of that was lost, and then the run was cancelled."""
    pipelines(workshop)
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "running"} if w.runnable.kind == "trainer" else usual(w)
    workshop.push("app", TREE, "a")
    workshop.turn(4)
    job = workshop.agent.submitted[-1].name
    with workshop.ledger.begin() as tx:
        step = tx.steps.by_workload(job)
        tx.steps.change(step.id, [StepState.RUNNING], step.attempt, state=StepState.QUEUED)
    workshop.runs.cancel("p", "training-pipeline", 1)

    workshop.engine = workshop.make_engine()
    workshop.turn(3)
    time.sleep(0.5)
    workshop.turn(2)

    assert workshop.agent.states[job].state == "cancelled"
    assert workshop.runs.get("p", "training-pipeline", 1)["state"] == "cancelled"
