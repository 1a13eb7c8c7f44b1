"""What builders take and return."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from fuseml_sdk.types.model import WireModel
from fuseml_sdk.types.runnables import RunnableDescriptor, Scalar


class BuilderDescription(WireModel):
    """What a builder recognises and makes."""

    name: str
    types: list[str] = Field(description="codeset types it recognises, such as `mlflow-project`")
    reads: list[str] = Field(default_factory=list, description="globs of the small files that detect wants to read, "
                             "matched without regard to case")
    makes: list[str] = Field(default_factory=list, description="names of the runnables it builds: trainer, predictor")
    concurrency: int = Field(8, ge=1, description="hook calls that may run at once")


class Detection(WireModel):
    """Whether a codeset is what a builder looks for, and why (or why not)."""

    matches: bool = Field(description="whether the codeset is of one of the builder's types")
    type: str | None = Field(None, description="which of them, when it matches")
    why: str = Field(description="one short sentence, shown to the person who pushed")
    metadata: dict[str, Any] = Field(default_factory=dict, description="facets to keep with the codeset")


class BuildRequest(WireModel):
    """A codeset checked out in a private directory, to be made into runnables."""

    project: str
    name: str = Field(description="of the codeset")
    digest: str
    directory: str = Field(description="absolute path of the checkout")
    output: str = Field(description="absolute path of an empty directory; `<output>/<runnable name>/` holds each "
                        "result")
    parameters: dict[str, Scalar] = Field(default_factory=dict, description="of the build step, by name")


class BuiltRunnable(WireModel):
    """One result: the descriptor; its files lie in `<output>/<output name>/`."""

    output: str = Field(description="name among `makes`, such as `trainer`")
    descriptor: RunnableDescriptor = Field(description="what to run and what it needs")


class BuildResult(WireModel):
    """What a build made."""

    runnables: list[BuiltRunnable]
    warnings: list[str] = Field(default_factory=list)
