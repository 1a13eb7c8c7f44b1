"""What a model returned, as JSON."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from .tensors import datatype_of


def encode(value: Any) -> bytes:
    """Encode as JSON; NaN and infinities, which JSON does not have, become null."""
    try:
        return json.dumps(value, allow_nan=False, default=_default, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, default=_default, separators=(",", ":")).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _finite(_default(value)) if type(value).__module__ == "numpy" else value


def _default(value: Any) -> Any:
    """Values inside results that `json` does not know."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(bytes(value)).decode()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _plain(result: Any) -> Any:
    """Sparse matrices as arrays, a text or number as a list of one."""
    if hasattr(result, "toarray"):
        return result.toarray()
    if isinstance(result, (str, bytes, int, float, bool)) or result is None:
        return [result]
    return result


def predictions(result: Any) -> Any:
    """The `predictions` of a plain answer: one item for each row."""
    result = _plain(result)
    if hasattr(result, "to_dict") and hasattr(result, "columns"):
        return result.to_dict(orient="records")
    return result.tolist() if hasattr(result, "tolist") else result


def output_tensors(result: Any, names: list[str]) -> list[dict[str, Any]]:
    """The `outputs` of an answer in protocol v2.

    Args:
        result: What the model returned.
        names: Names of the signature's outputs.
    """
    import numpy as np
    import pandas as pd

    result = _plain(result)
    if isinstance(result, list) and result and all(isinstance(item, dict) for item in result):
        result = pd.DataFrame(result)
    if isinstance(result, pd.DataFrame):
        return [_tensor(str(name), result[name].to_numpy()) for name in result.columns]
    if isinstance(result, dict):
        return [_tensor(str(name), np.asarray(value)) for name, value in result.items()]
    return [_tensor(names[0] if len(names) == 1 else "output-0", np.asarray(result))]


def _tensor(name: str, array: Any) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    data = array.reshape(-1).tolist()
    if datatype == "BYTES":
        data = [item if isinstance(item, str) else _text(item) for item in data]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def _text(item: Any) -> Any:
    if item is None or (isinstance(item, float) and math.isnan(item)):
        return None
    value = _default(item) if not isinstance(item, (dict, list, int, float, bool)) else item
    return value if isinstance(value, str) else json.dumps(value, default=_default)
