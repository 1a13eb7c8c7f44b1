"""The routes: Open Inference Protocol v2, protocol v1, and plain `/predict`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import RequestError
from .model import Model
from .results import output_tensors, predictions
from .rows import read_rows
from .tensors import model_input

VERSION = "0.1.0"

_NAME = r"(?P<name>[^/:]+)"
_MODEL = rf"/v2/models/{_NAME}(?:/versions/(?P<version>[^/]+))?"


@dataclass(frozen=True)
class Call:
    """One request: the model, the parts of the path, the raw body."""

    model: Model
    args: dict[str, str]
    body: bytes


def handle(model: Model, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Answer one request.

    Args:
        model: The model that is served.
        method: GET, HEAD or POST.
        path: Without the query.
        body: Raw body.

    Returns:
        HTTP status and JSON document.

    Raises:
        RequestError: The request cannot be answered.
    """
    allowed = set()
    for verb, pattern, handler in _ROUTES:
        match = pattern.fullmatch(path)
        if match and verb == ("GET" if method == "HEAD" else method):
            return handler(Call(model, match.groupdict(), body))
        if match:
            allowed.add(verb)
    if allowed:
        msg = f"use {' or '.join(sorted(allowed))} for {path}"
        raise RequestError(msg, 405)
    msg = f"there is nothing at {path}; see /v2, /v1/models and /predict"
    raise RequestError(msg, 404)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        msg = f"the body is not JSON: {error}"
        raise RequestError(msg) from None
    except RecursionError:
        msg = "the lists or objects of the body lie too deep in each other"
        raise RequestError(msg) from None


def _server(_call: Call) -> tuple[int, Any]:
    return 200, {"name": "fuseml", "version": VERSION, "extensions": []}


def _live(_call: Call) -> tuple[int, Any]:
    return 200, {"live": True}


def _ready(call: Call) -> tuple[int, Any]:
    if "name" in call.args:
        call.model.identity.check(call.args["name"], call.args.get("version"))
        return (200 if call.model.ready else 503), {"name": call.model.identity.name, "ready": call.model.ready}
    return (200 if call.model.ready else 503), {"ready": call.model.ready}


def _metadata(call: Call) -> tuple[int, Any]:
    call.model.identity.check(call.args["name"], call.args.get("version"))
    return 200, call.model.metadata()


def _infer(call: Call) -> tuple[int, Any]:
    call.model.identity.check(call.args["name"], call.args.get("version"))
    request = _json(call.body)
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        msg = "the body must be an object with inputs, a list of tensors"
        raise RequestError(msg)
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        msg = "parameters must be an object"
        raise RequestError(msg)
    data = model_input(request["inputs"], call.model.inputs, parameters)
    outputs = output_tensors(call.model.predict(data, {}), call.model.output_names())
    answer: dict[str, Any] = {"model_name": call.model.identity.name, "model_version": call.model.identity.version}
    if request.get("id") is not None:
        answer["id"] = request["id"]
    answer["outputs"] = _selected(outputs, request.get("outputs"))
    return 200, answer


def _selected(outputs: list[dict[str, Any]], wanted: Any) -> list[dict[str, Any]]:
    """The outputs that the request names, all by default."""
    if not wanted:
        return outputs
    by_name = {output["name"]: output for output in outputs}
    names = [item.get("name") for item in wanted if isinstance(item, dict)]
    unknown = [name for name in names if name not in by_name]
    if unknown:
        msg = f"there is no output {unknown[0]!r}; there are {', '.join(by_name)}"
        raise RequestError(msg)
    return [by_name[name] for name in names]


def _v1_list(call: Call) -> tuple[int, Any]:
    return 200, {"models": [call.model.identity.name]}


def _v1_predict(call: Call) -> tuple[int, Any]:
    call.model.identity.check(call.args["name"], None)
    request = _json(call.body)
    if not isinstance(request, dict) or not {"instances", "inputs"} & request.keys():
        msg = "the body must be an object with instances or inputs"
        raise RequestError(msg)
    return _answer(call.model, request)


def _predict(call: Call) -> tuple[int, Any]:
    return _answer(call.model, _json(call.body))


def _answer(model: Model, request: Any) -> tuple[int, Any]:
    data, params = read_rows(request, model.inputs)
    return 200, {"predictions": predictions(model.predict(data, params))}


_ROUTES: tuple[tuple[str, re.Pattern[str], Callable[[Call], tuple[int, Any]]], ...] = (
    ("POST", re.compile(r"/predict"), _predict),
    ("POST", re.compile(rf"{_MODEL}/infer"), _infer),
    ("POST", re.compile(rf"/v1/models/{_NAME}:predict"), _v1_predict),
    ("GET", re.compile(r"/v2/health/ready"), _ready),
    ("GET", re.compile(r"/v2/health/live"), _live),
    ("GET", re.compile(r"/v2/?"), _server),
    ("GET", re.compile(_MODEL), _metadata),
    ("GET", re.compile(rf"{_MODEL}/ready"), _ready),
    ("GET", re.compile(r"/v1/models"), _v1_list),
    ("GET", re.compile(rf"/v1/models/{_NAME}"), _ready),
)
