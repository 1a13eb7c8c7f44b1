"""The base of every type on the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """A frozen value that travels as JSON; unknown fields are tolerated when read and never written.

    Numbers that JSON does not have, such as the loss of a training that diverged, travel as the texts `NaN`, `Infinity`
    and `-Infinity`, which readers of number fields understand.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings")


class StrictModel(BaseModel):
    """A value that a person writes in a file; unknown fields are errors, because they are typing mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
