"""Names that the engine gives: artifacts that steps put out, services that they become."""

from __future__ import annotations

import re
from typing import Any

from fuseml_core.domain.names import HEX_LIKE, LABEL
from fuseml_core.engine.binding import Bound

#: Stands for the model's name in the name of a service, so that several kinds of services can serve one model.
MODEL_NAME = "{model}"


def slug(text: str, fallback: str) -> str:
    """Turn free text into a valid name; `fallback` when nothing of it remains."""
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63].strip("-._")
    if not LABEL.match(name):
        return fallback
    return f"{name}-x" if HEX_LIKE.match(name) else name


def codeset_name(bound: Bound) -> str:
    """Name of the first codeset among a step's inputs, or of its first input, or of its runnable."""
    versions = list(bound.versions.values())
    codesets = [v for v in versions if v.kind == "codeset"]
    chosen = (codesets or versions)[:1]
    return chosen[0].name if chosen else slug(bound.runnable.descriptor.name, "artifact")


def output_name(pipeline_outputs: dict[str, Any], step: str, port: str, given: str | None, bound: Bound) -> str:
    """Name of an artifact that a step put out: the template's setting, else the given one, else the codeset's."""
    for output in pipeline_outputs.values():
        if output["from"] == f"{step}.{port}" and output.get("name"):
            return slug(str(output["name"]), codeset_name(bound))
    return slug(given, codeset_name(bound)) if given else codeset_name(bound)


def service_name(spec: dict[str, Any], bound: Bound) -> str:
    """Name of the service that a step becomes: the template's setting with the model's name in it, else that name."""
    models = [v for v in bound.versions.values() if v.kind == "model"]
    model = models[0].name if models else codeset_name(bound)
    wanted = str(spec.get("service_name") or "")
    return slug(wanted.replace(MODEL_NAME, model), "service") if wanted else model
