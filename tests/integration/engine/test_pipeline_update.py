"""Binding pipelines to a newer version of the extension that they come from."""

from __future__ import annotations

import copy

import pytest

from fuseml_core.domain.errors import Invalid, NotFound, Refused
from fuseml_core.service.pins import pinned_bundles
from fuseml_core.service.pipeline_updates import PipelineUpdates

TREE = {"MLproject": "m1", "train.py": "t1", "README.md": "r1"}
NEW = "sha256:" + "2" * 64


@pytest.fixture
def updates(workshop):
    return PipelineUpdates(workshop.ledger, workshop.catalog, workshop.pipelines)


def publish(shop, name: str, change, digest: str = NEW) -> None:
    """The extension 2.0.0 with another template and another predictor."""
    template = copy.deepcopy(shop.catalog.entries[name]["template"])
    change(template)
    shop.catalog.add_template(template, digest)
    shop.catalog.entries[name]["version"] = "2.0.0"


def test_r171_a_pipeline_keeps_its_version_until_it_is_updated(workshop, updates):
    workshop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://*"}, {})
    before = workshop.pipelines.get("p", "serving-pipeline")
    assert updates.update("p", "serving-pipeline")["changes"] == []

    publish(workshop, "serving", lambda template: template["parameters"].update(retries={"type": "integer", "default": 3}))
    workshop.catalog.add_runnable({"name": "predictor", "kind": "predictor", "service": {}, "inputs": [
        {"name": "model", "kind": "model"}]}, NEW)
    planned = updates.update("p", "serving-pipeline", dry_run=True)
    assert planned["changes"][0] == "extension ext 1.0.0 → 2.0.0"
    assert "parameter retries is new (default 3)" in planned["changes"]
    assert any(line.startswith("step serve changes: runnable") for line in planned["changes"])
    assert not planned["updated"]
    assert workshop.pipelines.get("p", "serving-pipeline") == before

    assert updates.update("p", "serving-pipeline")["updated"]
    after = workshop.pipelines.get("p", "serving-pipeline")
    assert (after.id, after.extension_digest, after.inputs) == (before.id, NEW, before.inputs)
    assert after.spec["steps"]["serve"]["runnable"]["digest"] == NEW
    assert NEW in pinned_bundles(workshop.ledger)
    assert updates.update("p", "serving-pipeline")["changes"] == []


def test_after_an_update_the_same_selectors_start_the_new_version_and_old_runs_can_be_read(workshop, updates):
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    def rename(template):
        template["steps"]["fit"] = template["steps"].pop("train")
        template["outputs"] = {"model": {"from": "fit.model"}}

    publish(workshop, "training", rename)
    lines = updates.update("p", "training-pipeline")["changes"]
    assert "step fit is new" in lines
    assert "step train is gone" in lines
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(6)
    assert [step["name"] for step in workshop.runs.get("p", "training-pipeline", 2)["steps"]] == ["build", "fit"]
    assert workshop.runs.get("p", "training-pipeline", 2)["state"] == "succeeded"
    assert [step["name"] for step in workshop.runs.get("p", "training-pipeline", 1)["steps"]] == ["build", "train"]
    assert len(workshop.runs.results("p")) == 2


def test_what_does_not_fit_or_is_running_is_refused_and_nothing_changes(workshop, updates):
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {"alpha": "0.5"})
    before = workshop.pipelines.get("p", "training-pipeline")
    publish(workshop, "training", lambda template: template["inputs"].update(data={"kind": "dataset"}))
    with pytest.raises(Invalid, match="does not fit the installed version: the input data .* is not bound") as refused:
        updates.update("p", "training-pipeline")
    assert "fuseml pipeline add ext/training --name training-pipeline" in refused.value.hint
    publish(workshop, "training", lambda template: template["inputs"].pop("data"), "sha256:" + "3" * 64)
    workshop.push("app", TREE, "a")
    with pytest.raises(Refused, match="runs of the pipeline 'training-pipeline' are active"):
        updates.update("p", "training-pipeline")
    assert workshop.pipelines.get("p", "training-pipeline").spec == before.spec
    del workshop.catalog.entries["training"]
    with pytest.raises(NotFound, match="is installed no more"):
        updates.update("p", "training-pipeline")
    with pytest.raises(NotFound, match="no pipeline 'nothing'"):
        updates.update("p", "nothing")
