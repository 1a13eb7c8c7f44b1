"""Tensors of the Open Inference Protocol v2 (https://github.com/kserve/open-inference-protocol)."""

from __future__ import annotations

import base64
from typing import Any

from .columns import cast_frame, column_type, frame_of_matrix
from .errors import RequestError

#: Datatype on the wire to numpy type.
NUMPY_OF = {"BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
            "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32",
            "FP64": "float64", "BYTES": "object"}
DATATYPE_OF = {name: datatype for datatype, name in NUMPY_OF.items()}
#: Type of a column in a signature to datatype on the wire.
DATATYPE_OF_COLUMN = {"boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64"}


def datatype_of(dtype: Any) -> str:
    """Datatype on the wire of a numpy type; everything that is no number is BYTES."""
    return DATATYPE_OF.get(str(dtype), "BYTES")


def describe(schema: Any, prefix: str) -> list[dict[str, Any]]:
    """Metadata of a signature's inputs or outputs."""
    described = []
    for position, spec in enumerate(schema.inputs if schema is not None else ()):
        tensor = schema.is_tensor_spec()
        datatype = datatype_of(spec.type) if tensor else DATATYPE_OF_COLUMN.get(column_type(spec), "BYTES")
        shape = list(spec.shape) if tensor else [-1]
        described.append({"name": spec.name if spec.name is not None else f"{prefix}-{position}",
                          "datatype": datatype, "shape": [int(size) for size in shape]})
    return described


def read_tensor(item: Any) -> Any:
    """Read one tensor of a request.

    Returns:
        A numpy array of its shape.

    Raises:
        RequestError: A field is missing or wrong, or the data do not fit shape and datatype.
    """
    import numpy as np

    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        msg = "every input must be an object with name, shape, datatype and data"
        raise RequestError(msg)
    name, datatype, shape = item["name"], item.get("datatype"), item.get("shape")
    if datatype not in NUMPY_OF:
        msg = f"input {name!r}: datatype must be one of {', '.join(NUMPY_OF)}, got {datatype!r}"
        raise RequestError(msg)
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        msg = f"input {name!r}: shape must be a list of whole numbers"
        raise RequestError(msg)
    values = _flat(item.get("data"), name)
    if len(values) != int(np.prod(shape, dtype="int64")):
        msg = f"input {name!r}: shape {shape} wants {int(np.prod(shape, dtype='int64'))} values, got {len(values)}"
        raise RequestError(msg)
    return _typed(values, datatype, name, item.get("parameters") or {}).reshape(shape)


def _flat(data: Any, name: str) -> list[Any]:
    """Values in row-major order; nested lists are allowed."""
    if not isinstance(data, list):
        msg = f"input {name!r}: data must be a list"
        raise RequestError(msg)
    values: list[Any] = data
    while values and isinstance(values[0], list):
        if not all(isinstance(row, list) for row in values):
            msg = f"input {name!r}: data is nested unevenly"
            raise RequestError(msg)
        values = [value for row in values for value in row]
    return values


def _typed(values: list[Any], datatype: str, name: str, parameters: dict[str, Any]) -> Any:
    import numpy as np

    try:
        if datatype == "BYTES":
            return _bytes(values, name, base64_encoded=parameters.get("content_type") == "base64")
        if datatype == "BOOL":
            if not all(value in (True, False) for value in values):
                msg = f"input {name!r}: BOOL takes true and false"
                raise RequestError(msg)
            return np.array(values, dtype=bool)
        kinds = (int, float, type(None)) if datatype.startswith("FP") else (int,)
        wrong = next((value for value in values if not isinstance(value, kinds) or isinstance(value, bool)), values)
        if wrong is not values:
            msg = f"input {name!r}: {wrong!r} is not {datatype}"
            raise RequestError(msg)
        if not datatype.startswith("FP"):
            _check_range(values, datatype, name)
        return np.array(values, dtype=NUMPY_OF[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"input {name!r}: the data are not {datatype}: {error}"
        raise RequestError(msg) from None


def _check_range(values: list[int], datatype: str, name: str) -> None:
    import numpy as np

    limits = np.iinfo(NUMPY_OF[datatype])
    for value in values:
        if not int(limits.min) <= value <= int(limits.max):
            msg = f"input {name!r}: {value} does not fit into {datatype}"
            raise RequestError(msg)


def _bytes(values: list[Any], name: str, *, base64_encoded: bool) -> Any:
    import numpy as np

    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            msg = f"input {name!r}: BYTES takes texts, got {value!r}"
            raise RequestError(msg)
        array[index] = base64.b64decode(value) if base64_encoded and value is not None else value
    return array


def model_input(items: list[Any], schema: Any, parameters: dict[str, Any]) -> Any:
    """Put the tensors of a request together into what the model takes.

    One tensor for each column makes a table; one tensor of two dimensions has the columns in the signature's order.

    Raises:
        RequestError: They do not fit the signature.
    """
    tensors = {}
    for item in items:
        array = read_tensor(item)
        tensors[item["name"]] = array
    if not tensors:
        msg = "inputs must hold one tensor at least"
        raise RequestError(msg)
    if schema is None:
        as_table = len(tensors) > 1 or parameters.get("content_type") == "pd" or any(
            (item.get("parameters") or {}).get("content_type") == "pd" for item in items)
        return _table(tensors) if as_table else next(iter(tensors.values()))
    if schema.is_tensor_spec():
        return _for_tensors(tensors, schema)
    names = {spec.name for spec in schema.inputs}
    only = next(iter(tensors.values()))
    if len(tensors) == 1 and only.ndim == 2 and not (names & tensors.keys() and only.shape[1] == 1):
        return frame_of_matrix(only.tolist(), schema)
    return cast_frame(_table(tensors), schema)


def _table(tensors: dict[str, Any]) -> Any:
    import pandas as pd

    lengths = {name: array.shape[0] if array.ndim else 1 for name, array in tensors.items()}
    if len(set(lengths.values())) > 1:
        msg = "the inputs differ in their first dimension: " + ", ".join(f"{n} {size}" for n, size in lengths.items())
        raise RequestError(msg)
    return pd.DataFrame({name: array.reshape(-1) if array.ndim < 2 or array.shape[1:] == (1,) else list(array)
                         for name, array in tensors.items()})


def _for_tensors(tensors: dict[str, Any], schema: Any) -> Any:
    import numpy as np

    specs = list(schema.inputs)
    if len(specs) == 1 and len(tensors) == 1:
        tensors = {specs[0].name: next(iter(tensors.values()))}
    missing = [spec.name for spec in specs if spec.name not in tensors]
    if missing == [None]:
        msg = f"the model takes one input, got {len(tensors)}"
        raise RequestError(msg)
    if missing:
        msg = f"missing input{'s' if len(missing) > 1 else ''}: {', '.join(map(str, missing))}"
        raise RequestError(msg)
    cast = {}
    for spec in specs:
        array = tensors[spec.name]
        if not np.can_cast(array.dtype, spec.type, casting="same_kind") and array.dtype != object:
            wanted, got = datatype_of(spec.type), datatype_of(array.dtype)
            msg = f"input {spec.name or 'of the model'} must be {wanted}, got {got}"
            raise RequestError(msg)
        cast[spec.name] = array.astype(spec.type)
    return cast[None] if list(cast) == [None] else cast
