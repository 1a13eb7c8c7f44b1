"""Tables for models whose signature has columns, cast as MLflow's schema enforcement expects them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from .errors import RequestError

#: mlflow.types.DataType name to numpy type; the others stay as they are.
NUMPY_TYPES = {"boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64"}


def column_type(spec: Any) -> str:
    """Name of a column's type, such as `double`; `object` for arrays, maps and structures."""
    return str(getattr(spec.type, "name", "object"))


def is_required(spec: Any) -> bool:
    """Whether a column must be there. MLflow 2.9 calls it `optional`."""
    return bool(getattr(spec, "required", not getattr(spec, "optional", False)))


def frame_of_matrix(rows: Any, schema: Any, names: list[Any] | None = None) -> Any:
    """Make a table out of rows without names.

    Args:
        rows: List of lists, or a two-dimensional array.
        schema: mlflow.types.Schema with columns.
        names: Names of the columns; those of the schema, in order, by default.

    Raises:
        RequestError: A row has the wrong length, or a value does not fit its column.
    """
    import numpy as np
    import pandas as pd

    specs = list(schema.inputs)
    declared = [spec.name if spec.name is not None else position for position, spec in enumerate(specs)]
    columns = declared if names is None else names
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            msg = f"row {number} has {len(row)} values, expected {len(columns)}: {_listed(columns)}"
            raise RequestError(msg)
    if names is None and all(column_type(spec) == "double" for spec in specs):
        array = np.array(rows)
        if array.ndim == 2 and array.dtype.kind in "iuf":
            return pd.DataFrame(array.astype("float64"), columns=columns)
    return cast_frame(pd.DataFrame([list(row) for row in rows], columns=columns, dtype=object), schema)


def cast_frame(frame: Any, schema: Any) -> Any:
    """Cast the columns of a table to the types of the signature.

    Args:
        frame: pandas.DataFrame, changed in place.
        schema: mlflow.types.Schema with columns.

    Raises:
        RequestError: A column is missing or a value does not fit; the message names it.
    """
    specs = list(schema.inputs)
    named = all(spec.name is not None for spec in specs)
    if named:
        missing = [spec.name for spec in specs if is_required(spec) and spec.name not in frame.columns]
        if missing:
            msg = f"missing column{'s' if len(missing) > 1 else ''}: {_listed(missing)}"
            raise RequestError(msg)
    for position, spec in enumerate(specs):
        name = spec.name if named else (frame.columns[position] if position < len(frame.columns) else None)
        if name is not None and name in frame.columns:
            frame[name] = cast_column(frame[name], spec, name)
    return frame.infer_objects() if not named else frame


def cast_column(series: Any, spec: Any, name: Any) -> Any:
    """Cast one column.

    Raises:
        RequestError: A value does not fit; the message names column and value.
    """
    import pandas as pd

    kind = column_type(spec)
    try:
        if kind in ("float", "double"):
            return _numbers(series, name).astype(NUMPY_TYPES[kind])
        if kind in ("integer", "long"):
            return _whole(_numbers(series, name), NUMPY_TYPES[kind], name, is_required(spec))
        if kind == "boolean":
            return series if series.isna().any() else _booleans(series, name)
        if kind == "binary":
            return series.map(lambda value: base64.b64decode(value, validate=True) if isinstance(value, str)
                              else value)
        if kind == "datetime":
            return pd.to_datetime(series).astype("datetime64[ns]")
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        msg = f"column {name!r} must be of type {kind}: {error}"
        raise RequestError(msg) from None
    return series


def _numbers(series: Any, name: Any) -> Any:
    """Numbers with NaN for null. Texts are refused, although numpy would read them."""
    import pandas as pd

    if series.dtype.kind in "iufb":
        return series
    for value in series:
        if isinstance(value, (str, bytes, list, dict)):
            msg = f"column {name!r} takes numbers, got {value!r}"
            raise RequestError(msg)
    return pd.to_numeric(series.where(series.notna(), None), errors="raise")


def _whole(series: Any, kind: str, name: Any, required: bool) -> Any:
    import numpy as np

    if series.isna().any():
        if required:
            msg = f"column {name!r} takes whole numbers and has missing values"
            raise RequestError(msg)
        return series.astype("float64")
    limits = np.iinfo(kind)
    for value in series:
        if value != int(value):
            msg = f"column {name!r} takes whole numbers, got {value!r}"
            raise RequestError(msg)
        if not limits.min <= value <= limits.max:
            msg = f"column {name!r}: {value!r} does not fit into {kind}"
            raise RequestError(msg)
    return series.astype(kind)


def _booleans(series: Any, name: Any) -> Any:
    for value in series:
        if value not in (True, False):
            msg = f"column {name!r} takes true or false, got {value!r}"
            raise RequestError(msg)
    return series.astype("bool")


def _listed(names: list[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown
