"""A job that succeeded must have given what its runnable declares, whichever agent ran it."""

from __future__ import annotations

import pytest

from fuseml_core.engine.outputs import BadOutputs, check_outputs
from fuseml_sdk.types import RunnableDescriptor, WorkloadOutput

TRAINER = RunnableDescriptor.model_validate({
    "name": "trainer", "kind": "trainer", "command": ["x"], "outputs": [
        {"name": "model", "kind": "model"}, {"name": "report", "kind": "value", "optional": True},
        {"name": "parts", "kind": "dataset", "many": True, "optional": True}]})
MODEL = {"name": "model", "kind": "model", "location": {"uri": "file:///w/a"}}


def given(*outputs):
    return check_outputs("train", TRAINER, [WorkloadOutput.model_validate(output) for output in outputs])


@pytest.mark.parametrize(("outputs", "reason", "words"), [
    ([], "MissingOutput", "the step train ended well but gave no output 'model', which trainer declares"),
    ([{**MODEL, "name": "words"}], "MissingOutput", "'model'"),
    ([{**MODEL, "location": None}], "MissingOutput", "the step train gave the output 'model' without a location"),
    ([MODEL, MODEL], "InvalidOutput", "'model' 2 times"),
    ([{**MODEL, "kind": "runnable"}], "InvalidOutput", "as 'runnable'; it is declared as 'model'"),
    ([{**MODEL, "files": [{"path": "../../etc/passwd", "size": 1, "digest": "sha256:0"}]}], "InvalidOutput",
     "'../../etc/passwd'"),
    ([{**MODEL, "files": [{"path": "/etc/passwd", "size": 1, "digest": "sha256:0"}]}], "InvalidOutput", "'/etc/passwd'"),
    ([{**MODEL, "files": [{"path": "", "size": 1, "digest": "sha256:0"}]}], "InvalidOutput", "the file ''"),
    ([MODEL, {"name": "report", "kind": "value"}], "MissingOutput", "'report' without a value"),
    ([MODEL, {"name": "report", "kind": "value", "value": "x" * 100_000}], "InvalidOutput", "more than 65536 bytes"),
    ([{**MODEL, "name": f"x{number}"} for number in range(10_001)], "InvalidOutput", "10001 outputs"),
])
def test_r43_r58_outputs_that_are_missing_or_not_as_declared_are_refused(outputs, reason, words):
    with pytest.raises(BadOutputs) as caught:
        given(*outputs)
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert "step train" in caught.value.message
    assert len(caught.value.message) < 400


def test_r43_what_is_declared_is_taken_in_and_what_is_not_is_left_out_with_a_warning():
    part = {"name": "parts", "kind": "dataset", "location": {"uri": "file:///w/p"}}
    taken, warnings = given(MODEL, part, part, {**MODEL, "name": "y" * 1000})
    assert [output.name for output in taken] == ["model", "parts", "parts"]
    assert warnings == [f"the output '{'y' * 80}' was left out: trainer does not declare it"]
