"""Runs in a person's hands."""

from __future__ import annotations

from fuseml_core.domain.errors import Conflict, Invalid
from fuseml_core.engine.creation import RunMode

TREE = {"MLproject": "m1", "train.py": "t1"}


def trained(shop):
    shop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    shop.push("app", TREE, "a")
    shop.turn(4)


def steps(shop, run):
    return {s["name"]: s["state"] for s in shop.runs.view(run)["steps"]}


def test_r115_one_step_runs_alone_on_earlier_results(workshop):
    """The trainer is executed anew, the builder's result is taken as it is."""
    trained(workshop)
    before = len(workshop.agent.submitted)

    run = workshop.manual.start("p", "training-pipeline", {}, {}, RunMode(only="train"))
    workshop.turn(4)

    view = workshop.runs.view(run)
    assert (view["state"], [s["reused"] for s in view["steps"]]) == ("succeeded", [True, False])
    assert len(workshop.agent.submitted) == before + 1


def test_r115_a_step_without_earlier_results_says_so(workshop):
    """Nothing is executed that was not asked for."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {}, "none")
    workshop.push("app", TREE, "a")
    workshop.turn(4)

    run = workshop.manual.start("p", "training-pipeline", {}, {"alpha": 0.9}, RunMode(only="build"))
    workshop.turn(4)

    assert steps(workshop, run) == {"build": "succeeded", "train": "skipped"}


def test_r116_a_run_is_taken_step_by_step(workshop):
    """Each step waits until it is released."""
    trained(workshop)
    run = workshop.manual.start("p", "training-pipeline", {}, {"alpha": 0.9}, RunMode(stepping=True))
    workshop.turn(3)
    assert steps(workshop, run) == {"build": "waiting", "train": "waiting"}

    workshop.manual.step("p", "training-pipeline", run.number)
    workshop.turn(3)
    assert steps(workshop, run) == {"build": "succeeded", "train": "waiting"}

    workshop.manual.step("p", "training-pipeline", run.number, rest=True)
    workshop.turn(3)
    assert steps(workshop, run) == {"build": "succeeded", "train": "succeeded"}


def test_r117_a_component_is_swapped_while_the_run_goes_on(workshop, raises_fuseml):
    """A step that has not started runs another runnable; one that does not fit is refused."""
    trained(workshop)
    fits = {"name": "other-trainer", "kind": "trainer", "inputs": [{"name": "code", "kind": "codeset"}],
            "outputs": [{"name": "model", "kind": "model"}], "parameters": [{"name": "alpha", "type": "float", "default": 9}]}
    workshop.catalog.add_runnable(fits, digest="sha256:other")
    run = workshop.manual.start("p", "training-pipeline", {}, {}, RunMode(stepping=True))
    workshop.turn(2)

    with raises_fuseml(Invalid, "cannot stand in for the step train"):
        workshop.manual.swap("p", "training-pipeline", run.number, "train", "builder")
    workshop.manual.swap("p", "training-pipeline", run.number, "train", "other-trainer")
    workshop.manual.step("p", "training-pipeline", run.number, rest=True)
    workshop.turn(4)

    view = workshop.runs.view(run)
    assert view["steps"][1]["why"].startswith("swapped by hand to runnable://fuseml/ext/other-trainer")
    assert workshop.agent.submitted[-1].runnable.name == "other-trainer"
    with raises_fuseml(Conflict, "only a waiting one can be swapped"):
        workshop.manual.swap("p", "training-pipeline", run.number, "train", "other-trainer")


def test_r118_a_failed_run_is_resumed_from_where_it_failed(workshop, raises_fuseml):
    """The build is not executed again."""
    usual = workshop.agent.outcome
    workshop.agent.outcome = lambda w: {"state": "failed", "exit_code": 1} if w.runnable.kind == "trainer" else usual(w)
    trained(workshop)
    workshop.agent.outcome = usual
    submitted = len(workshop.agent.submitted)

    run = workshop.manual.resume("p", "training-pipeline", 1)
    workshop.turn(4)

    assert workshop.runs.view(run)["state"] == "succeeded"
    assert len(workshop.agent.submitted) == submitted + 1
    with raises_fuseml(Conflict, "only a failed or cancelled one"):
        workshop.manual.resume("p", "training-pipeline", run.number)


def test_r91_a_sweep_trains_each_combination_in_one_change(workshop):
    """Three values make three runs; the build is made once."""
    trained(workshop)

    runs = workshop.manual.sweep("p", "training-pipeline", {}, {"alpha": ["0.1", "0.2", "0.3"]})
    workshop.turn(6)

    views = [workshop.runs.view(r) for r in runs]
    assert [v["state"] for v in views] == ["succeeded"] * 3
    assert len({r.change for r in runs}) == 1
    assert [v["steps"][0]["reused"] for v in views] == [True] * 3
    assert [w.parameters["alpha"] for w in workshop.agent.submitted[-3:]] == [0.1, 0.2, 0.3]
