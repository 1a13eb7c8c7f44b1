"""Settings of extensions in the environment of workloads."""

from __future__ import annotations

TREE = {"MLproject": "m1", "train.py": "t1"}


def test_r99_what_an_extension_brings_or_built_is_told_the_extensions_settings(workshop):
    """The build step and the trainer it made know `ext`; a runnable of another extension knows only that one's."""
    workshop.components.settings = {"ext": {"FUSEML_EXT_URL": "http://x"}, "other": {"FUSEML_OTHER_URL": "http://y"}}
    workshop.catalog.runnables["predictor"]["address"] = "runnable://fuseml/other/predictor@sha256:r1"
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://*"}, {})
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    told = {w.runnable.name: {k: v for k, v in w.env.items() if k.endswith("_URL")} for w in workshop.agent.submitted}
    assert told == {"builder": {"FUSEML_EXT_URL": "http://x"}, "trainer": {"FUSEML_EXT_URL": "http://x"},
                    "predictor": {"FUSEML_OTHER_URL": "http://y"}}


def test_a_setting_is_no_reason_to_do_work_again(workshop):
    """It is read at each start, and stays out of the fingerprint."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.push("app", TREE, "a")
    workshop.turn(6)
    workshop.components.settings = {"ext": {"FUSEML_EXT_URL": "http://x"}}
    workshop.push("app", {**TREE, "README.md": "r"}, "b")
    workshop.turn(6)

    run = workshop.runs.get("p", "training-pipeline", 2)
    assert {step["name"]: step["reused"] for step in run["steps"]} == {"build": True, "train": True}
