"""Compiling templates: wiring by kind and type, wrong couplings refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml_core.domain.errors import Invalid
from fuseml_core.service.compilation import compile_template, outputs_by_kind
from fuseml_sdk.templates import PipelineTemplate


def port(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, **more}


RUNNABLES = {
    "builder": {"inputs": [port("code", "codeset")], "outputs": [port("trainer", "runnable")]},
    "trainer": {"inputs": [port("code", "codeset"), port("data", "dataset", optional=True)],
                "outputs": [port("model", "model", type="mlflow/sklearn")], "parameters": [{"name": "alpha"}]},
    "predictor": {"inputs": [port("model", "model", types=["mlflow"])], "service": {"listen": "unix"}},
    "onnx": {"inputs": [port("model", "model", types=["onnx"])]},
}


def find(name: str) -> dict[str, Any]:
    return {"address": name, "digest": f"sha256:{name}", "contents": "file:///x",
            "descriptor": {"name": name, "kind": "custom", "command": ["x"], **RUNNABLES[name]}}


def compiled(steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    template = {"name": "t", "inputs": {"code": {"kind": "codeset"}}, "steps": steps, **more}
    return compile_template(PipelineTemplate.model_validate(template), find)


def test_r21_r111_steps_are_wired_by_matching_outputs_to_inputs():
    """Nothing is mapped by hand; the order follows from what flows."""
    spec = compiled({"serve": {"runnable": "predictor"}, "train": {"runnable": "trainer"}})

    assert spec["order"] == ["train", "serve"]
    assert spec["steps"]["train"]["inputs"] == {"code": "inputs.code"}
    assert spec["steps"]["serve"]["inputs"] == {"model": "train.model"}


def test_r112_every_service_puts_out_its_url():
    """Declared or not."""
    spec = compiled({"train": {"runnable": "trainer"}, "serve": {"runnable": "predictor"}},
                    outputs={"url": {"from": "serve.url"}})

    assert spec["outputs"]["url"]["from"] == "serve.url"


@pytest.mark.parametrize(("steps", "phrase"), [
    ({"serve": {"runnable": "predictor"}}, "nothing gives the input model"),
    ({"a": {"runnable": "trainer"}, "b": {"runnable": "trainer"}, "serve": {"runnable": "predictor"}},
     "can be taken from a.model, b.model"),
    ({"train": {"runnable": "trainer", "inputs": {"cod": "inputs.code"}}}, "maps the input 'cod'"),
    ({"train": {"runnable": "trainer", "inputs": {"code": "inputs.kode"}}}, "refers to inputs.kode"),
    ({"train": {"runnable": "trainer", "inputs": {"code": "build.x"}}}, "refers to build.x"),
    ({"train": {"runnable": "trainer"}, "score": {"runnable": "onnx", "inputs": {"model": "train.model"}}}, "onnx is needed"),
    ({"train": {"runnable": "trainer"}, "serve": {"runnable": "predictor", "inputs": {"model": "inputs.code"}}},
     "a model is needed"),
    ({"train": {"runnable": "trainer", "needs": ["serve"]}, "serve": {"runnable": "predictor"}}, "need each other"),
    ({"train": {"runnable": "trainer", "parameters": {"beta": 1}}}, "sets the parameter 'beta'"),
    ({"train": {"runnable": "trainer", "parameters": {"alpha": "{parameters.gamma}"}}}, "the parameter 'gamma'"),
    ({"train": {"runnable": "trainer", "needs": ["nobody"]}}, "no step of the template"),
])
def test_r20_r113_a_wrong_coupling_is_refused_with_the_reason(steps, phrase):
    """Before anything runs."""
    with pytest.raises(Invalid, match=phrase):
        compiled(steps)


@pytest.mark.parametrize(("declared", "minimum", "maximum"), [
    ({"type": "integer"}, -5, 5), ({"type": "float", "minimum": 0, "maximum": 9}, 0, 5), ({"type": "string"}, None, None)])
def test_r51_a_number_that_is_passed_on_has_the_limits_of_who_takes_it(monkeypatch, declared, minimum, maximum):
    """What a step would refuse is refused when the pipeline is added; the narrower limit counts."""
    monkeypatch.setitem(RUNNABLES, "bounded", {"parameters": [
        {"name": "least", "type": "integer", "minimum": -5, "maximum": 5}]})
    spec = compiled({"a": {"runnable": "bounded", "parameters": {"least": "{parameters.smallest}"}}},
                    parameters={"smallest": declared})

    assert (spec["parameters"]["smallest"]["minimum"], spec["parameters"]["smallest"]["maximum"]) == (minimum, maximum)


def test_outputs_are_told_by_kind():
    """A service's address is of a kind of its own, so that who wants a model served finds the template."""
    spec = compiled({"train": {"runnable": "trainer"}, "serve": {"runnable": "predictor"}},
                    outputs={"url": {"from": "serve.url"}, "model": {"from": "train.model"}})

    assert outputs_by_kind(spec) == {"url": "url", "model": "model"}
