"""Messages of the Seldon protocol as rows that a model is asked for, and its predictions as arrays."""

from __future__ import annotations

import math
from typing import Any

#: Keys that tell rows as FuseML's and MLflow's other servers take them from a message of the Seldon protocol.
PLAIN = frozenset({"instances", "inputs", "dataframe_split", "dataframe_records", "columns"})
DATA = "data with ndarray or tensor, jsonData, or strData"


class MessageError(Exception):
    """The message of a request cannot be understood; the text says what is wrong with it."""


def is_plain(message: Any) -> bool:
    """Whether these are plain rows: no message, but what `fuseml service predict` sends to any service."""
    return isinstance(message, list) or (isinstance(message, dict) and not PLAIN.isdisjoint(message))


def rows_of(message: Any) -> Any:
    """The body of a `/predict` request that asks for what a message asks for.

    Numbers and texts of an `ndarray` stay what they are in JSON; an array of both would turn all into texts.

    Args:
        message: A SeldonMessage as JSON: `{"data": {"names": […], "ndarray": [[…]]}}`, `{"data": {"tensor": {"shape":
            […], "values": […]}}}`, `{"jsonData": …}` in any form of rows, or `{"strData": "…"}` as the only value;
            or plain rows.

    Raises:
        MessageError: It is none of these.
    """
    if is_plain(message):
        return message
    if not isinstance(message, dict):
        msg = f"a message must be an object with {DATA}"
        raise MessageError(msg)
    if "jsonData" in message:
        return message["jsonData"]
    if "strData" in message:
        return [message["strData"]]
    data = message.get("data")
    if not isinstance(data, dict):
        found = next((name for name in ("binData", "customData") if name in message), None)
        msg = f"a model of tables takes no {found}" if found else "there is nothing to predict from"
        raise MessageError(f"{msg}: send {DATA}")
    return _of_data(data)


def _of_data(data: dict[str, Any]) -> Any:
    if "ndarray" in data:
        rows = data["ndarray"]
    elif "tensor" in data:
        rows = _of_tensor(data["tensor"])
    else:
        msg = "data must hold ndarray, a list of rows, or tensor, with shape and values"
        raise MessageError(msg)
    names = data.get("names") or []
    if not isinstance(rows, list) or not rows:
        msg = "there are no rows" if rows == [] else "ndarray must be a list of rows"
        raise MessageError(msg)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = "names must be a list of texts, one for each column"
        raise MessageError(msg)
    if not names:
        return rows
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        msg = f"there are {len(names)} names, so every row must be a list of {len(names)} values"
        raise MessageError(msg)
    return {"dataframe_split": {"columns": names, "data": rows}}


def _of_tensor(tensor: Any) -> Any:
    """Nested lists of a tensor in row-major order."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("values"), list):
        msg = "tensor must be an object with shape and values"
        raise MessageError(msg)
    values: list[Any] = tensor["values"]
    if not values:
        return []
    shape = tensor.get("shape") or [len(values)]
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        msg = "shape must be a list of positive whole numbers"
        raise MessageError(msg)
    if math.prod(shape) != len(values):
        msg = f"the shape {shape} wants {math.prod(shape)} values, got {len(values)}"
        raise MessageError(msg)
    for size in reversed(shape[1:]):  # the innermost lists first
        values = [values[start:start + size] for start in range(0, len(values), size)]
    return values


def rectangle(predictions: Any) -> tuple[list[Any], list[str]] | None:
    """Predictions as an array of values or of rows, and the names of its columns.

    Args:
        predictions: What `/predict` gave: one item for each row, a value, a list or an object.

    Returns:
        None if they are no array, such as lists of different lengths.
    """
    if not isinstance(predictions, list):
        return None
    if predictions and all(isinstance(item, dict) for item in predictions):
        names = list(predictions[0])
        if any(list(item) != names for item in predictions):
            return None
        rows = [list(item.values()) for item in predictions]
        return (rows, [str(name) for name in names]) if _depth(rows) == 2 else None
    return None if _depth(predictions) is None else (predictions, [])


def _depth(value: Any) -> int | None:
    """Dimensions of nested lists; None if they are uneven or hold objects."""
    if isinstance(value, dict):
        return None
    if not isinstance(value, list):
        return 0
    inner = {(_depth(item), len(item) if isinstance(item, list) else 0) for item in value}
    if len(inner) > 1 or (None, 0) in inner:
        return None
    depth = next(iter(inner))[0] if inner else 0
    return None if depth is None else depth + 1
