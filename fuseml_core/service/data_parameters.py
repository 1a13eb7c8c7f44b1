"""Data sets given where a program takes a path: `--param data=dataset://measurements` (R100)."""

from __future__ import annotations

from typing import Any

from fuseml_core.domain.errors import Invalid

_SCHEME = "dataset://"


def place_datasets(spec: dict[str, Any], inputs: dict[str, str], parameters: dict[str, Any],
                   template: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Turn parameters of the program that name a data set into inputs, so that it is staged and lineage shows it.

    Args:
        spec: The compiled template.
        inputs: What is bound to inputs already.
        parameters: Values as they were given; those that the template itself declares are left alone.
        template: Its name, for messages.

    Returns:
        Inputs, and parameters in which `{inputs.<name>}` stands for the path of that input.

    Raises:
        Invalid: No input is left that takes a data set.
    """
    taken, values = dict(inputs), dict(parameters)
    for name, value in parameters.items():
        if name in spec["parameters"] or not (isinstance(value, str) and value.startswith(_SCHEME)):
            continue
        free = [n for n, declared in spec["inputs"].items() if declared["kind"] == "dataset" and n not in taken]
        if not free:
            raise Invalid(f"the parameter {name} names a data set, and no input of the template {template} is left "
                          "that takes one", hint="Give an http(s):// or s3:// URL, or use --input for one of them.")
        taken[free[0]] = value
        values[name] = f"{{inputs.{free[0]}}}"
    return taken, values
