"""The contract as data: what is frozen equals the code, and nothing but data is in it."""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
import types
import typing

import pytest
from pydantic import BaseModel

from fuseml_sdk import contract
from fuseml_sdk.errors import Internal, InvalidInput
from fuseml_sdk.hookspecs import FAMILIES, IDEMPOTENT
from fuseml_sdk.types import ArtifactRef, Location, Metric, RegisterRequest, WorkloadStatus

SCALARS = (str, int, float, bool, type(None), typing.Any)


def test_frozen_schemas_equal_the_code():
    assert contract.differences() == [], "run: python -m fuseml_sdk.contract --write, and review what changed"


def test_frozen_digest_is_that_of_the_code():
    assert contract.frozen()["digest"] == contract.digest()


def test_r129_every_hook_of_every_family_has_an_operation():
    hooks = {name for specs in FAMILIES.values() for name, value in vars(specs).items() if inspect.isfunction(value)}
    assert set(contract.operations()) == hooks
    assert {o.family for o in contract.operations().values()} == {"fuseml", "store", "agent", "builder"}
    assert hooks >= IDEMPOTENT


def test_every_route_names_its_hook():
    for name, operation in contract.operations().items():
        assert operation.route == f"/v1/hooks/{name}"


def _is_data(annotation: object, seen: frozenset[object] = frozenset()) -> bool:
    if annotation in SCALARS or annotation in seen:
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return True
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(_is_data(part, seen) for part in typing.get_args(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return all(_is_data(field.annotation, seen | {annotation}) for field in annotation.model_fields.values())
    return False


@pytest.mark.parametrize("hook", contract.operations())
def test_r164_hooks_take_and_return_data_only(hook):
    operation = contract.operations()[hook]
    for parameter in operation.parameters:
        assert _is_data(parameter.annotation), f"{hook}({parameter.name}) is not data"
    assert _is_data(operation.result)


def test_the_data_check_finds_what_is_not_data():
    assert not _is_data(typing.Callable[[], None])
    assert not _is_data(list[typing.IO[str]])


def test_digest_does_not_depend_on_documentation():
    document = {"title": "A", "properties": {"description": {"type": "string", "description": "x"}}}
    other = {"title": "B", "properties": {"description": {"type": "string"}}}
    assert contract._digest(document) == contract._digest(other)
    assert contract._digest(document) != contract._digest({"properties": {}})


def test_arguments_survive_the_wire():
    operation = contract.operations()["store_locate"]
    arguments = {"ref": ArtifactRef(kind="model", project="p", name="ü", digest="sha256:1"), "accepts": ["file", "s3"]}
    assert operation.decode_arguments(operation.encode_arguments(arguments)) == arguments


def test_numbers_that_json_does_not_have_survive_the_wire():
    """A training that diverges reports them, and its state must not be lost for it."""
    operation = contract.operations()["agent_status"]
    status = WorkloadStatus(name="x", state="running", timings={"a": math.inf},
                            metrics=[Metric(key="loss", value=math.nan), Metric(key="gain", value=-math.inf)])
    body = operation.encode_result([status])
    assert json.loads(body, parse_constant=pytest.fail)[0]["metrics"][0]["value"] == "NaN"
    (read,) = operation.decode_result(body)
    assert math.isnan(read.metrics[0].value)
    assert (read.metrics[1].value, read.timings) == (-math.inf, {"a": math.inf})


def test_unknown_arguments_and_fields_of_a_newer_caller_are_ignored():
    operation = contract.operations()["store_get"]
    body = b'{"ref": {"kind": "model", "project": "p", "name": "n", "later": 1}, "newer": true}'
    assert operation.decode_arguments(body) == {"ref": ArtifactRef(kind="model", project="p", name="n")}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"no json", b'{"ref": 1}', b'{"ref": {"kind": "model"}}'])
def test_wrong_arguments_are_the_callers_fault(body):
    with pytest.raises(InvalidInput, match="store_get"):
        contract.operations()["store_get"].decode_arguments(body)


def test_a_live_object_in_metadata_is_refused():
    request = RegisterRequest(kind="model", project="p", name="n", metadata={"x": object()})
    with pytest.raises(InvalidInput, match="JSON"):
        contract.operations()["store_register"].encode_arguments({"request": request})


def test_a_wrong_result_is_the_plugins_fault():
    operation = contract.operations()["store_locate"]
    with pytest.raises(Internal, match="store_locate"):
        operation.check_result("file:///x")
    assert operation.check_result({"uri": "file:///x"}) == Location(uri="file:///x")


def test_a_parameter_with_a_default_may_be_left_out():
    operation = contract.Operation("store_x", "store", (contract.Parameter("a", int), contract.Parameter("b", str, "z")),
                                   int, False)
    assert operation.decode_arguments(b'{"a": 1}') == {"a": 1, "b": "z"}
    assert operation.arguments_adapter.json_schema()["required"] == ["a"]


def test_file_formats_have_schemas():
    for name in ("extension-manifest", "pipeline-template", "runnable-descriptor"):
        schema = json.loads((contract.SCHEMAS / f"{name}.json").read_bytes())
        assert schema["additionalProperties"] is False
        assert schema["$schema"].startswith("https://json-schema.org/")


def test_the_command_compares():
    done = subprocess.run([sys.executable, "-m", "fuseml_sdk.contract"], capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stderr) == (0, "")
