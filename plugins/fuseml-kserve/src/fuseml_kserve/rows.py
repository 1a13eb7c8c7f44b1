"""Plain JSON rows, in the forms people and MLflow's own server use, as input for a model."""

from __future__ import annotations

from typing import Any

from .columns import cast_frame, frame_of_matrix
from .errors import RequestError

FORMS = ("a list of rows, or an object with one of: instances, inputs, dataframe_split, dataframe_records, data "
         "(with columns)")
KEYS = ("instances", "inputs", "dataframe_split", "dataframe_records")


def read_rows(body: Any, schema: Any) -> tuple[Any, dict[str, Any]]:
    """Turn the body of a prediction request into what the model takes.

    Args:
        body: Parsed JSON.
        schema: The signature's inputs (mlflow.types.Schema), or None.

    Returns:
        The input for `predict`, and its parameters.

    Raises:
        RequestError: The form is unknown, or does not fit the signature.
    """
    if isinstance(body, list):
        return _of_list(body, schema), {}
    if not isinstance(body, dict):
        msg = f"the body must be {FORMS}"
        raise RequestError(msg)
    params = body.get("params") or {}
    if not isinstance(params, dict):
        msg = "params must be an object"
        raise RequestError(msg)
    given = [key for key in (*KEYS, "data") if key in body]
    if len(given) != 1:
        msg = f"the body must be {FORMS}" + (f"; got {', '.join(given)}" if given else "")
        raise RequestError(msg)
    return _of_object(given[0], body, schema), params


def _of_object(key: str, body: dict[str, Any], schema: Any) -> Any:
    if key == "data":
        return _split(body, schema)
    value = body[key]
    if key == "dataframe_split":
        return _split(value, schema)
    if key == "dataframe_records":
        return _records(_list(value, key), schema)
    if key == "inputs" and isinstance(value, dict):
        return _of_columns(value, schema)
    return _of_list(_list(value, key), schema)


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        msg = f"{key} must be a list"
        raise RequestError(msg)
    return value


def _of_list(rows: list[Any], schema: Any) -> Any:
    """Rows as objects, as lists or as single values."""
    if not rows:
        msg = "there are no rows"
        raise RequestError(msg)
    if schema is not None and schema.is_tensor_spec():
        return _tensors(rows, schema)
    if all(isinstance(row, dict) for row in rows):
        return _records(rows, schema)
    if schema is None:
        return _untyped(rows)
    if all(isinstance(row, list) for row in rows):
        return frame_of_matrix(rows, schema)
    if len(schema.inputs) == 1 and not any(isinstance(row, (list, dict)) for row in rows):
        return frame_of_matrix([[row] for row in rows], schema)
    msg = f"a row must be a list of {len(schema.inputs)} values or an object; one row alone is [[…]]"
    raise RequestError(msg)


def _records(rows: list[Any], schema: Any) -> Any:
    import pandas as pd

    if not rows or not all(isinstance(row, dict) for row in rows):
        msg = "every row must be an object, and there must be one at least"
        raise RequestError(msg)
    if schema is None or schema.is_tensor_spec():
        return pd.DataFrame(rows)
    return cast_frame(pd.DataFrame(rows, dtype=object), schema)


def _split(value: Any, schema: Any) -> Any:
    import pandas as pd

    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        msg = "a table must be an object with data (a list of rows) and columns"
        raise RequestError(msg)
    columns, rows = value.get("columns"), value["data"]
    if columns is None:
        return _of_list(rows, schema)
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            msg = f"row {number} of data does not have {len(columns)} values, as columns says"
            raise RequestError(msg)
    if schema is None or schema.is_tensor_spec():
        return pd.DataFrame(rows, columns=columns)
    return frame_of_matrix(rows, schema, names=list(columns))


def _of_columns(value: dict[str, Any], schema: Any) -> Any:
    """`inputs` as an object: one list for each column, or one array for each tensor."""
    import numpy as np
    import pandas as pd

    if schema is not None and schema.is_tensor_spec():
        return {spec.name: _array(value[spec.name], spec) for spec in schema.inputs if spec.name in value}
    lists = {name: item if isinstance(item, list) else [item] for name, item in value.items()}
    if len({len(item) for item in lists.values()}) > 1:
        if schema is not None:
            msg = "the columns in inputs differ in length"
            raise RequestError(msg)
        return {name: np.array(item) for name, item in lists.items()}
    frame = pd.DataFrame({name: pd.Series(item, dtype=object) for name, item in lists.items()})
    return frame.infer_objects() if schema is None else cast_frame(frame, schema)


def _tensors(rows: list[Any], schema: Any) -> Any:
    specs = list(schema.inputs)
    if all(isinstance(row, dict) for row in rows):
        if [spec.name for spec in specs] == [None]:
            msg = "the model takes one tensor without a name: give its values, not objects"
            raise RequestError(msg)
        missing = [spec.name for spec in specs if any(spec.name not in row for row in rows)]
        if missing:
            msg = f"missing in some row: {', '.join(map(str, missing))}"
            raise RequestError(msg)
        return {spec.name: _array([row[spec.name] for row in rows], spec) for spec in specs}
    if len(specs) != 1:
        msg = f"the model takes several tensors: {', '.join(str(spec.name) for spec in specs)}; name them"
        raise RequestError(msg)
    array = _array(rows, specs[0])
    return array if specs[0].name is None else {specs[0].name: array}


def _array(value: Any, spec: Any) -> Any:
    import numpy as np

    try:
        return np.array(value, dtype=spec.type)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"{spec.name or 'the rows'} cannot be an array of {spec.type}: {error}"
        raise RequestError(msg) from None


def _untyped(rows: list[Any]) -> Any:
    """Without a signature: an array where the values are numbers, else a table or the list itself."""
    import numpy as np
    import pandas as pd

    try:
        array = np.array(rows)
    except ValueError:
        msg = "the rows differ in length"
        raise RequestError(msg) from None
    if array.dtype.kind in "biuf":
        return array
    if array.ndim == 2:
        frame = pd.DataFrame(rows)
        return frame.where(frame.notna(), np.nan).infer_objects()
    return rows
