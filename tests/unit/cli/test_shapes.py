"""Which template or pipeline is meant by `train` and `serve`."""

from __future__ import annotations

from typing import Any

import pytest

from fuseml_core.cli.shapes import SERVE, TRAIN, covering_input, only_template
from fuseml_core.domain.errors import Invalid, NotFound

CODE = {"kind": "codeset", "project": "p", "name": "app", "type": "mlflow-project", "short": "code://p/app/f3b0924"}


def template(name: str, takes: dict[str, Any], **gives: str) -> dict[str, Any]:
    return {"name": f"ext/{name}", "inputs": takes, "gives": gives}


TRAINING = template("training", {"code": {"kind": "codeset", "types": ["mlflow-project"]},
                                 "data": {"kind": "dataset", "optional": True}}, model="model", notes="dataset")
ANY = template("any", {"code": {"kind": "codeset"}}, model="model")
END_TO_END = template("end-to-end", {"code": {"kind": "codeset"}}, model="model", url="url")
SERVING = template("serving", {"model": {"kind": "model", "types": ["mlflow"]}}, url="url")
JOINED = template("joined", {"code": {"kind": "codeset"}, "data": {"kind": "dataset"}}, model="model")


def test_r188_the_only_template_of_the_shape_is_meant() -> None:
    """One that serves too, or needs more than code, is not what was asked for."""
    assert only_template([SERVING, END_TO_END, JOINED, TRAINING], TRAIN, CODE) is TRAINING
    model = {"kind": "model", "type": "mlflow/sklearn", "short": "model://p/4c88e8f252be"}
    assert only_template([SERVING, TRAINING, END_TO_END], SERVE, model) is SERVING


def test_r188_the_type_of_the_artifact_decides_among_several() -> None:
    """Code that is no MLflow project leaves one; an MLflow project leaves two, and a person must choose."""
    assert only_template([TRAINING, ANY], TRAIN, {**CODE, "type": None}) is ANY
    with pytest.raises(Invalid, match="Several templates would train .*: ext/any, ext/training"):
        only_template([TRAINING, ANY], TRAIN, CODE)


def test_r188_what_no_template_takes_is_refused_with_the_reason() -> None:
    """No template at all: the extension to install; a wrong type: what was found in the code."""
    with pytest.raises(NotFound) as none:
        only_template([SERVING], TRAIN, CODE)
    assert "fuseml extension install mlflow" in none.value.hint
    with pytest.raises(Invalid, match="is not of type mlflow-project, .*: no MLproject"):
        only_template([TRAINING], TRAIN, {**CODE, "type": None, "metadata": {"detection": "no MLproject"}})


@pytest.mark.parametrize(("selector", "input_"), [
    ("code://*", "code"), ("code://p/app", "code"), ("code://a*", "code"), ("code://other/app", ""), ("code://p/b", ""),
    ("code://p/app@git:" + "0" * 40, "")])
def test_r188_a_pipeline_that_follows_the_name_is_used(selector: str, input_: str) -> None:
    """One that is bound to a single version does not follow."""
    pipeline = {"project": "p", "inputs": {"code": selector}, "gives": {"model": "model"},
                "takes": {"code": {"kind": "codeset", "types": []}, "data": {"kind": "dataset", "types": []}}}
    assert covering_input(pipeline, TRAIN, CODE) == input_
    assert covering_input({**pipeline, "gives": {"numbers": "dataset"}}, TRAIN, CODE) == ""
