"""Pipeline templates: a typed DAG of steps, written in YAML, shipped in bundles."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from fuseml_sdk.types.model import StrictModel
from fuseml_sdk.types.runnables import InputSpec, OutputSpec, ParameterSpec, Resources, Scalar


class TemplateInput(StrictModel):
    """An artifact that the pipeline takes; bound by an address or a selector when the pipeline is added."""

    kind: str
    types: list[str] = Field(default_factory=list)
    optional: bool = False
    filter: list[str] = Field(default_factory=list, description="change filter on this input: only these files matter")
    description: str = ""


class TemplateParameter(StrictModel):
    """A value the pipeline takes. Without a value, `default_from` then `default` is used and shown as default."""

    type: str = "string"
    default: Scalar | None = None
    default_from: str = Field("", description="dotted path into an input's descriptor, such as "
                              "`inputs.model.metadata.flavor`")
    required: bool = False
    choices: list[Scalar] = Field(default_factory=list)
    minimum: float | None = Field(None, description="smallest number; without one, that of the runnables it goes to")
    maximum: float | None = Field(None, description="largest number; without one, that of the runnables it goes to")
    shown: bool = Field(False, description="listed among the inputs in `pipeline results show`")
    description: str = ""


class Interface(StrictModel):
    """What a runnable made by an earlier step will look like, so that the wiring can be checked beforehand."""

    kind: str = "custom"
    inputs: list[InputSpec] = Field(default_factory=list)
    outputs: list[OutputSpec] = Field(default_factory=list)
    parameters: list[ParameterSpec] = Field(default_factory=list)


class TemplateStep(StrictModel):
    """One step: a runnable by name, or `from: <step>.<output>` when an earlier step makes it."""

    runnable: str = Field("", description="name in this bundle, `<extension>/<name>`, or a runnable:// address")
    from_: str = Field("", alias="from", description="`<step>.<output>` of an earlier step")
    interface: Interface | None = None
    variants: dict[str, str] = Field(default_factory=dict, description="with `variant_by`: value to runnable")
    variant_by: str = Field("", description="name of the template parameter that chooses among `variants`")
    inputs: dict[str, str] = Field(default_factory=dict, description="input of the runnable to `inputs.<name>` or "
                                   "`<step>.<output>`; what is unambiguous by kind and type may be left out")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameter of the runnable to a value or to "
                                       "`{parameters.<name>}`")
    open_parameters: bool = Field(False, description="pass pipeline parameters that no template parameter takes")
    filters: dict[str, list[str]] = Field(default_factory=dict, description="input to change filter; replaces the "
                                          "runnable's own")
    needs: list[str] = Field(default_factory=list, description="steps that must finish first although no data flows")
    resources: Resources = Field(default_factory=Resources)
    service_name: str = Field("", description="name of the service, in which `{model}` stands for the "
                              "model's name; empty: the model's name")
    timeout: float | None = Field(None, gt=0)
    retries: int = Field(0, ge=0, le=10)
    description: str = ""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="after")
    def _one_source(self) -> TemplateStep:
        if bool(self.runnable) == bool(self.from_):
            msg = "a step needs either `runnable` or `from`"
            raise ValueError(msg)
        if self.from_ and self.interface is None:
            msg = "a step with `from` must declare the `interface` of the runnable it will run"
            raise ValueError(msg)
        return self


class TemplateOutput(StrictModel):
    """A result of the pipeline, shown in the results table."""

    from_: str = Field(alias="from", description="`<step>.<output>`")
    name: str = Field("", description="name for the artifact; empty: the one it was given, else the codeset's")

    model_config = ConfigDict(populate_by_name=True)


class PipelineTemplate(StrictModel):
    """A reusable pipeline: typed inputs, parameters, steps and outputs."""

    name: str = Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")
    summary: str = ""
    description: str = ""
    inputs: dict[str, TemplateInput] = Field(default_factory=dict)
    parameters: dict[str, TemplateParameter] = Field(default_factory=dict)
    open_parameters: bool = Field(False, description="accept parameters that are not listed (passed to steps that take "
                                  "them)")
    steps: dict[str, TemplateStep] = Field(min_length=1)
    outputs: dict[str, TemplateOutput] = Field(default_factory=dict)
