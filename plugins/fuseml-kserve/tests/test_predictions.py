"""Predictions over HTTP are those of MLflow, whatever the form of the rows."""

from __future__ import annotations

import math

import pytest

COLUMNS = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
ROWS = [[59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
        [48.0, 1.0, 21.6, 87.0, 183.0, 103.2, 70.0, 3.0, 3.8918, 69.0],
        [1 / 3, 1.0, 1e-7, 87.5, 2 / 7, 103.2, 70.0, 3.0, 3.8918, 1e5]]
RECORDS = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
FORMS = {
    "rows": ROWS, "records": RECORDS, "shuffled records": [dict(reversed(row.items())) for row in RECORDS],
    "table": {"columns": COLUMNS, "data": ROWS}, "table without names": {"data": ROWS},
    "dataframe_split": {"dataframe_split": {"columns": COLUMNS, "data": ROWS, "index": [0, 1, 2]}},
    "dataframe_records": {"dataframe_records": RECORDS}, "instances": {"instances": ROWS},
    "instance records": {"instances": RECORDS}, "inputs": {"inputs": ROWS},
    "inputs by column": {"inputs": {name: [row[name] for row in RECORDS] for name in COLUMNS}},
}


def close(got, expected):
    return len(got) == len(expected) and all(abs(a - b) <= 1e-9 for a, b in zip(got, expected, strict=True))


@pytest.fixture(scope="session")
def expected(models, reference):
    return reference(models / "linear", {"columns": COLUMNS, "data": ROWS})


@pytest.mark.parametrize("form", FORMS)
def test_r109_predictions_equal_those_of_mlflow(shared, expected, form):
    status, answer = shared("linear").post("/predict", FORMS[form])
    assert status == 200, answer
    assert close(answer["predictions"], expected)


@pytest.mark.parametrize("form", ["rows", "table", "instances", "inputs"])
def test_r109_models_without_a_signature_take_numbers(shared, expected, form):
    status, answer = shared("untyped").post("/predict", FORMS[form])
    assert status == 200, answer
    assert close(answer["predictions"], expected)


def test_r109_whole_numbers_stand_for_doubles(shared):
    whole = [[59, 2, 32, 101, 157, 93, 38, 4, 5, 87]]
    floats = [[float(value) for value in whole[0]]]
    assert shared("linear").post("/predict", whole) == shared("linear").post("/predict", floats)


def test_protocol_v1(shared, expected):
    server = shared("linear")
    assert server.get("/v1/models") == (200, {"models": ["linear"]})
    assert server.get("/v1/models/linear") == (200, {"name": "linear", "ready": True})
    status, answer = server.post("/v1/models/linear:predict", {"instances": ROWS})
    assert status == 200
    assert close(answer["predictions"], expected)
    assert server.post("/v1/models/linear:predict", {"rows": []})[0] == 400
    assert server.post("/v1/models/other:predict", {"instances": ROWS})[0] == 404


def test_protocol_v2_one_tensor_of_two_dimensions(shared, expected):
    request = {"id": "a7", "inputs": [{"name": "x", "shape": [3, 10], "datatype": "FP64", "data": ROWS}]}
    status, answer = shared("linear").post("/v2/models/linear/infer", request)
    assert status == 200, answer
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a7", "linear", "1")
    [output] = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("output-0", "FP64", [3])
    assert close(output["data"], expected)


def test_protocol_v2_one_tensor_for_each_column_and_named_outputs(shared, expected):
    inputs = [{"name": name, "shape": [3, 1], "datatype": "FP64", "data": [row[i] for row in ROWS]}
              for i, name in enumerate(COLUMNS)]
    server = shared("linear")
    status, answer = server.post("/v2/models/linear/versions/1/infer",
                                 {"inputs": inputs, "outputs": [{"name": "output-0"}]})
    assert status == 200, answer
    assert close(answer["outputs"][0]["data"], expected)
    status, answer = server.post("/v2/models/linear/infer", {"inputs": inputs, "outputs": [{"name": "y"}]})
    assert (status, answer["error"]) == (400, "there is no output 'y'; there are output-0")


def test_protocol_v2_metadata_and_health(shared):
    server = shared("linear")
    assert server.get("/v2")[1]["name"] == "fuseml"
    assert server.get("/v2/health/live") == (200, {"live": True})
    assert server.get("/v2/health/ready") == (200, {"ready": True})
    assert server.get("/v2/models/linear/ready")[0] == 200
    assert server.get("/v2/models/linear/versions/1/ready")[0] == 200
    assert server.get("/v2/models/linear/versions/2")[0] == 404
    metadata = server.get("/v2/models/linear")[1]
    assert metadata["inputs"][0] == {"name": "age", "datatype": "FP64", "shape": [-1]}
    assert metadata["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1]}]
    assert metadata["platform"] == "mlflow_sklearn"


MIXED = {"i": 1, "l": 2, "f": 0.5, "d": 1, "s": "ä", "b": True, "t": "2026-01-02T03:04:05", "y": "AAE="}


def test_columns_are_cast_to_the_types_of_the_signature(shared):
    status, answer = shared("mixed").post("/predict", [MIXED, {**MIXED, "o": None}])
    assert status == 200, answer
    row = answer["predictions"][0]
    assert [row[f"{name}_type"] for name in "ilfdsb"] == ["int32", "int64", "float32", "float64", "object", "bool"]
    assert row["t_type"].startswith("datetime64")
    assert (row["s"], row["y"], row["o"]) == ("ä", "AAE=", None)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("i", 1.5, "column 'i' takes whole numbers, got 1.5"), ("i", 2**40, "does not fit into int32"),
    ("i", None, "takes whole numbers and has missing values"), ("d", "1.0", "column 'd' takes numbers, got '1.0'"),
    ("b", 7, "column 'b' takes true or false, got 7"), ("t", "soon", "column 't' must be of type datetime"),
    ("y", "?", "column 'y' must be of type binary"),
])
def test_values_that_do_not_fit_are_named(shared, name, value, message):
    status, answer = shared("mixed").post("/predict", [{**MIXED, name: value}])
    assert status == 400
    assert message in answer["error"]


def test_missing_columns_are_named(shared):
    status, answer = shared("mixed").post("/predict", [{"i": 1, "l": 1, "f": 1, "d": 1}])
    assert (status, answer["error"]) == (400, "missing columns: s, b, t")


def test_null_is_nan_and_nan_is_null(shared):
    status, answer = shared("mixed").post("/predict", [{**MIXED, "d": None}])
    assert (status, answer["predictions"][0]["d"]) == (200, None)


@pytest.mark.parametrize(("rows", "expected"), [
    ([[1, 2], [3, 4]], [3.0, 7.0]), ({"instances": [[1, 2]]}, [3.0]),
    ({"inputs": [[1, 2]], "params": {}}, [3.0])])
def test_tensors_of_plain_rows(shared, rows, expected):
    assert shared("tensor").post("/predict", rows) == (200, {"predictions": expected})


def test_several_tensors(shared):
    server = shared("tensors")
    assert server.post("/predict", {"inputs": {"a": [[1, 2]], "b": [[3]]}})[1]["predictions"] == {"a": [3.0], "b": [3]}
    status, answer = server.post("/v2/models/tensors/infer", {"inputs": [
        {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "b", "shape": [1, 1], "datatype": "INT8", "data": [3]}]})
    assert status == 200, answer
    assert [(o["name"], o["datatype"], o["data"]) for o in answer["outputs"]] == [("a", "FP64", [3.0]), ("b", "INT64", [3])]
    assert server.post("/predict", [[1, 2]])[1]["error"] == "the model takes several tensors: a, b; name them"


@pytest.mark.parametrize(("datatype", "data"), [
    ("BOOL", [True, False]), ("UINT8", [0, 255]), ("UINT16", [0, 65535]), ("UINT32", [0, 2**32 - 1]),
    ("UINT64", [0, 2**64 - 1]), ("INT8", [-128, 127]), ("INT16", [-2**15, 7]), ("INT32", [-2**31, 7]),
    ("INT64", [-2**63, 2**63 - 1]), ("FP16", [0.5, 1.0]), ("FP32", [0.5, 2.25]), ("FP64", [1 / 3, 1e300]),
    ("BYTES", ["a", "ä"]),
])
def test_every_datatype_travels(datatype, data):
    from fuseml_kserve.results import output_tensors
    from fuseml_kserve.tensors import read_tensor

    array = read_tensor({"name": "x", "shape": [2], "datatype": datatype, "data": data})
    [output] = output_tensors(array, [])
    assert (output["datatype"], output["data"], output["shape"]) == (datatype, data, [2])


@pytest.mark.parametrize(("item", "message"), [
    ({"name": "x"}, "datatype must be one of"),
    ({"name": "x", "datatype": "FP64", "data": [1]}, "shape must be a list"),
    ({"name": "x", "datatype": "FP64", "shape": [2], "data": [1]}, "wants 2 values, got 1"),
    ({"name": "x", "datatype": "FP64", "shape": [1], "data": ["a"]}, "'a' is not FP64"),
    ({"name": "x", "datatype": "INT8", "shape": [1], "data": [300]}, "300 does not fit into INT8"),
    ({"name": "x", "datatype": "INT8", "shape": [1], "data": [True]}, "True is not INT8"),
    ({"name": "x", "datatype": "BOOL", "shape": [1], "data": [2]}, "BOOL takes true and false"),
    ({"name": "x", "datatype": "BYTES", "shape": [1], "data": [2]}, "BYTES takes texts"),
    ({"name": "x", "datatype": "FP64", "shape": [2], "data": [[1], 2]}, "nested unevenly"),
    ({"datatype": "FP64"}, "name, shape, datatype and data"),
])
def test_tensors_that_do_not_fit_are_refused(item, message):
    from fuseml_kserve.errors import RequestError
    from fuseml_kserve.tensors import read_tensor

    with pytest.raises(RequestError) as caught:
        read_tensor(item)
    assert message in caught.value.message


def test_numbers_that_json_lacks_become_null():
    from fuseml_kserve.results import encode

    assert encode({"a": [math.nan, 1.5, math.inf]}) == b'{"a":[null,1.5,null]}'
