"""Services: switched when ready, drained, restarted, stopped."""

from __future__ import annotations

import time

from fuseml_core.domain.errors import Conflict
from fuseml_core.domain.records import InstanceState
from fuseml_sdk.types import WorkloadStatus

TREE = {"MLproject": "m1", "train.py": "t1"}


def served(shop):
    shop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    shop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://*"}, {})
    shop.push("app", TREE, "a")
    shop.turn(6)
    return shop.services.get("p", "app")


def instances(shop):
    with shop.ledger.read() as tx:
        return tx.services.instances()


def also(shop):
    """A second template whose services are called after their model."""
    template = shop.catalog.template("serving")["template"]
    steps = {"serve": {**template["steps"]["serve"], "service_name": "{model}-also"}}
    shop.catalog.add_template({**template, "name": "also", "steps": steps})


def test_r109_several_templates_serve_one_model_under_names_of_their_own(workshop, raises_fuseml):
    """Two owners of services that would be called the same are refused, by template and selector."""
    also(workshop)
    served(workshop)
    workshop.pipelines.add("p", "also", "second", {"model": "model://app"}, {})
    workshop.pipelines.add("p", "also", "other", {"model": "model://other"}, {})
    workshop.turn(4)

    assert {s["name"]: s["pipeline"] for s in workshop.services.all("p")} == {
        "app": "serving-pipeline", "app-also": "second"}
    assert len({s["model"] for s in workshop.services.all("p")}) == 1
    with raises_fuseml(Conflict, "the pipeline second serves model://app already"):
        workshop.pipelines.add("p", "also", "third", {"model": "model://app"}, {})


def test_r109_a_new_model_replaces_the_old_instance_only_when_it_is_ready(workshop):
    """While the new one starts, the old one is routed; afterwards it drains."""
    first = served(workshop)
    workshop.gateway.flying[first["instance"]] = 1  # so that it drains for as long as this test looks
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "preparing"} if w.kind == "service" else usual(w)

    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(5)
    assert workshop.gateway.tables[-1]["p/app"]["instance"] == first["instance"]

    workshop.agent.report(workshop.agent.submitted[-1].name, state="ready", endpoint="unix:/tmp/y.sock")
    workshop.turn(2)

    assert workshop.gateway.tables[-1]["p/app"]["endpoint"] == "unix:/tmp/y.sock"
    assert [i.state for i in instances(workshop)] == [InstanceState.DRAINING, InstanceState.READY]


def test_r109_an_instance_that_never_gets_ready_fails_the_run_and_leaves_the_old_one(workshop):
    """The service goes on serving the old model."""
    first = served(workshop)
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "failed", "reason": "NotReady", "message": "not ready in time"} \
        if w.kind == "service" else usual(w)

    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(6)

    assert workshop.runs.get("p", "serving-pipeline", 2)["state"] == "failed"
    service = workshop.services.get("p", "app")
    assert (service["state"], service["instance"]) == ("ready", first["instance"])


def test_r109_draining_waits_for_requests_in_flight(workshop):
    """An instance that still answers a request is not ended before its time."""
    first = served(workshop)
    workshop.gateway.flying[first["instance"]] = 1
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(6)
    with workshop.ledger.begin() as tx:
        old = tx.services.instances(states=[InstanceState.DRAINING])[0]
        tx.services.set_instance(old.id, drain_until=time.time() + 20)
    workshop.turn(1)
    assert InstanceState.DRAINING in {i.state for i in instances(workshop)}

    workshop.gateway.flying.clear()
    workshop.turn(1)

    assert workshop.agent.states[first["instance"]].state == "cancelled"


def test_r109_a_crashed_instance_is_started_again_with_the_same_model(workshop):
    """After a reboot or a crash the desired service comes back."""
    first = served(workshop)
    workshop.agent.report(first["instance"], state="failed", reason="Signal", message="killed by SIGKILL")

    workshop.turn(3)

    service = workshop.services.get("p", "app")
    assert (service["state"], service["restarts"]) == ("ready", 1)
    assert service["instance"] != first["instance"]
    assert service["model"] == first["model"]


def test_r109_a_stopped_service_stays_stopped_until_it_is_started(workshop):
    """Stopping takes the route away; starting brings the last model back."""
    first = served(workshop)

    workshop.services.stop("p", "app")
    workshop.turn(2)
    assert workshop.services.get("p", "app")["state"] == "stopped"
    assert workshop.gateway.tables[-1]["p/app"]["endpoint"] is None

    workshop.services.start("p", "app")
    workshop.turn(3)
    service = workshop.services.get("p", "app")
    assert (service["state"], service["model"]) == ("ready", first["model"])


def test_r109_removing_the_pipeline_ends_its_service(workshop):
    """The service goes with its owner, the model stays."""
    first = served(workshop)

    workshop.pipelines.remove("p", "serving-pipeline")

    assert workshop.services.all("p") == []
    assert workshop.agent.states[first["instance"]].state == "cancelled"


def test_r109_a_slow_older_model_never_replaces_a_newer_one(workshop):
    """Two runs start instances; the later run's gets ready first and stays."""
    served(workshop)
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "preparing"} if w.kind == "service" else usual(w)
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(4)
    slow = workshop.agent.submitted[-1].name
    workshop.push("app", {**TREE, "train.py": "t3"}, "c")
    workshop.turn(4)
    fast = workshop.agent.submitted[-1].name

    workshop.agent.report(fast, state="ready", endpoint="unix:/tmp/fast.sock")
    workshop.turn(2)
    workshop.agent.report(slow, state="ready", endpoint="unix:/tmp/slow.sock")
    workshop.turn(3)

    assert workshop.services.get("p", "app")["instance"] == fast
    run = workshop.runs.get("p", "serving-pipeline", 2)
    assert (run["state"], run["steps"][0]["state"]) == ("succeeded", "skipped")
    assert "serving-pipeline/3 serves a newer model" in run["steps"][0]["message"]
    assert workshop.agent.states[slow].state == "cancelled"


def test_r109_a_slow_training_of_earlier_code_does_not_replace_the_newer_model(workshop):
    """The model is registered and its run says why it is not served; asking for it by hand serves it."""
    served(workshop)
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "running"} if w.runnable.kind == "trainer" else usual(w)
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(3)
    slow = workshop.agent.submitted[-1]
    workshop.agent.outcome = usual
    workshop.push("app", {**TREE, "train.py": "t3"}, "c")
    workshop.turn(6)
    newest = workshop.services.get("p", "app")["model"]

    ended = WorkloadStatus(name=slow.name, **usual(slow))
    workshop.agent.report(slow.name, state=ended.state, outputs=ended.outputs)
    workshop.turn(6)

    late = workshop.runs.get("p", "training-pipeline", 2)
    assert late["state"] == "succeeded"
    assert workshop.services.get("p", "app")["model"] == newest
    runs = workshop.runs.page("p", pipeline="serving-pipeline")
    assert [r["state"] for r in runs] == ["succeeded"] * 3
    asked = workshop.manual.start("p", "serving-pipeline", {"model": late["outputs"][0]["value"]}, {})
    workshop.turn(6)
    assert workshop.runs.view(asked)["steps"][0]["state"] == "succeeded"
    assert workshop.services.get("p", "app")["model"] == late["outputs"][0]["value"]


def test_r17_a_pipeline_that_follows_latest_runs_for_each_latest_model_and_for_no_outdated_one(workshop):
    """The alias has moved before triggers look, and a slow training of earlier code does not move it."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://p/app:latest"}, {})
    usual = workshop.agent.outcome
    workshop.push("app", TREE, "a")
    workshop.turn(6)
    workshop.agent.outcome = lambda w: {"state": "running"} if w.runnable.kind == "trainer" else usual(w)
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(3)
    slow = workshop.agent.submitted[-1]
    workshop.agent.outcome = usual
    workshop.push("app", {**TREE, "train.py": "t3"}, "c")
    workshop.turn(6)

    ended = WorkloadStatus(name=slow.name, **usual(slow))
    workshop.agent.report(slow.name, state=ended.state, outputs=ended.outputs)
    workshop.turn(4)

    assert workshop.runs.get("p", "training-pipeline", 2)["state"] == "succeeded"
    runs = workshop.runs.page("p", pipeline="serving-pipeline")
    assert [r["state"] for r in runs] == ["succeeded", "succeeded"]
    assert workshop.services.get("p", "app")["run"] == "serving-pipeline/2"
