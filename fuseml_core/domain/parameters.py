"""Parameters passed by value: from what a person typed to a value of the declared type."""

from __future__ import annotations

import math
import operator
from typing import Any

from fuseml_core.domain.errors import Invalid

_TRUE, _FALSE = {"true", "yes", "1", "on"}, {"false", "no", "0", "off"}


def convert(name: str, spec: dict[str, Any], value: Any) -> Any:
    """Turn a value into the type that a parameter declares.

    Args:
        name: Name of the parameter, for the message.
        spec: Declaration with `type` and optionally `choices`, `minimum`, `maximum`.
        value: What was given: text from a command line, or a JSON value.

    Raises:
        Invalid: It is of the wrong type, not among the choices, or out of range.
    """
    type_ = spec.get("type", "string")
    try:
        result = _typed(type_, value)
    except (ValueError, TypeError, OverflowError):
        raise Invalid(f"the parameter {name} must be {_article(type_)}, not {value!r}") from None
    choices = spec.get("choices") or []
    if choices and result not in choices:
        raise Invalid(f"the parameter {name} cannot be {result!r}",
                      hint=f"Choose one of {', '.join(map(str, choices))}.")
    for bound, wrong in (("minimum", operator.lt), ("maximum", operator.gt)):
        limit = spec.get(bound)
        if limit is not None and isinstance(result, int | float) and wrong(result, limit):
            raise Invalid(f"the parameter {name} is {result}, its {bound} is {limit}")
    return result


def check_free(name: str, value: Any) -> Any:
    """Return the value of a parameter that nobody declared, if a program can be given it.

    Raises:
        Invalid: It is a list, an object, nothing, or a number that JSON does not have.
    """
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise Invalid(f"the parameter {name} cannot be {value!r}", hint="Give a text, a finite number, true or false.")
    return value


def _typed(type_: str, value: Any) -> Any:
    if type_ == "boolean":
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise ValueError(value)
        return text in _TRUE
    if isinstance(value, bool) and type_ in ("integer", "float"):
        raise TypeError(value)
    if type_ == "integer":
        if isinstance(value, float) and not value.is_integer():
            raise ValueError(value)
        return int(value)
    if type_ == "float":
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)  # JSON has no such numbers
        return number
    if isinstance(value, dict | list) or value is None:
        raise TypeError(value)
    return str(value)


def _article(type_: str) -> str:
    return f"an {type_}" if type_[:1] in "aeiou" else f"a {type_}"
