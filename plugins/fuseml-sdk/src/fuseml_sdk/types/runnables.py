"""Runnables at rest: what to execute, in which environment, with which inputs, outputs and parameters."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from fuseml_sdk.types.model import StrictModel

RunnableKind = Literal["builder", "trainer", "predictor", "transformer", "validator", "explainer", "notebook",
                       "converter", "agent", "custom"]
ParameterType = Literal["string", "integer", "float", "boolean", "path", "uri"]
#: How a value reaches the workload: environment variable, command-line arguments, or the JSON file $FUSEML_CONFIG.
Delivery = Literal["env", "argument", "config"]
Scalar = str | int | float | bool
_NAME = re.compile(r"^[a-z][a-z0-9_]*\Z")


class InputSpec(StrictModel):
    """One named, typed input of a runnable."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: str = Field(description="artifact kind: codeset, runnable, model, dataset, …")
    types: list[str] = Field(default_factory=list, description="accepted artifact types; empty accepts all")
    optional: bool = Field(False, description="whether it runs without")
    filter: list[str] = Field(default_factory=list, description="change filter: globs of the files that matter, "
                              "`!` excludes, matched without regard to case; empty means all")
    deliver: Delivery = Field("env", description="how its path reaches the workload: environment variable, "
                              "command-line argument or the JSON file $FUSEML_CONFIG")
    argument: str = Field("", description="with deliver=argument: the option, such as `--data`")
    description: str = ""


class OutputSpec(StrictModel):
    """One named, typed output of a runnable."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: str = Field(description="artifact kind, or `value` for a short text such as a URL")
    type: str | None = Field(None, description="of the artifact; None: the workload says it")
    many: bool = Field(False, description="the directory holds one sub-directory per artifact")
    optional: bool = Field(False, description="whether success without it is success")
    tracked: bool = Field(True, description="False passes it on as an anonymous artifact, never registered")
    description: str = ""


class ParameterSpec(StrictModel):
    """One parameter passed by value."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    type: ParameterType = Field("string", description="what values are read as and checked against")
    default: Scalar | None = Field(None, description="None: the workload decides")
    required: bool = Field(False, description="whether a run must say it")
    choices: list[Scalar] = Field(default_factory=list, description="the only values; empty: any")
    minimum: float | None = Field(None, description="smallest number")
    maximum: float | None = Field(None, description="largest number")
    deliver: Delivery = Field("env", description="how it reaches the workload: environment variable, command-line "
                              "argument or the JSON file $FUSEML_CONFIG")
    argument: str = Field("", description="with deliver=argument: the option, such as `--alpha`")
    description: str = ""


class EnvironmentSpec(StrictModel):
    """The Python environment or image a runnable needs. Paths are relative to the runnable's contents."""

    python: str | None = Field(None, description="wanted minor version such as `3.11`; None takes the server's")
    lock: str | None = Field(None, description="hashed requirements without URLs")
    wheels: str | None = Field(None, description="directory of wheels installed after the lock, without an index")
    from_input: str | None = Field(None, description="take the environment that this input artifact carries")
    requirements: list[str] = Field(default_factory=list, description="with from_input: what is needed beside the "
                                    "requirements.txt of that input; both are resolved together")
    image: str | None = Field(None, description="OCI image; used by agents that run containers")


class Resources(StrictModel):
    """What a workload may use at most; None leaves it to the agent's default."""

    cpu: float | None = Field(None, gt=0, description="cores")
    memory: int | None = Field(None, gt=0, description="bytes")
    gpu: int | None = Field(None, ge=0, description="devices")
    storage: int | None = Field(None, gt=0, description="bytes of scratch space")


class ServiceSpec(StrictModel):
    """How a service listens and when it is ready."""

    listen: Literal["unix", "tcp"] = Field("unix", description="unix: on file descriptor 3, already bound and "
                                           "listening; tcp: on 127.0.0.1:$FUSEML_SERVICE_PORT")
    ready_path: str = Field("/v2/health/ready", description="answers 200 when requests can be served")
    predict_path: str = Field("/predict", description="what the service's URL ends with")
    start_timeout: float = Field(180.0, gt=0, description="seconds until ready")


class RunnableDescriptor(StrictModel):
    """A runnable: entry point, environment, interface and needs.

    `command` is a list of arguments in which `{input.NAME}`, `{output.NAME}`, `{parameter.NAME}`, `{runnable}`
    (directory of the runnable's contents), `{python}` (interpreter of the environment) and `{python.NAME}`
    (interpreter of one of `environments`) are replaced; nothing is passed through a shell.
    """

    api_version: Literal["fuseml.io/v1"] = "fuseml.io/v1"
    kind: RunnableKind = "custom"
    name: str
    description: str = ""
    command: list[str] = Field(min_length=1, description="program and arguments, with placeholders")
    environment: EnvironmentSpec = Field(default_factory=EnvironmentSpec)
    environments: dict[str, EnvironmentSpec] = Field(
        default_factory=dict, description="further environments by name, for programs that the first one starts and "
        "whose requirements exclude its own; `{python.NAME}` is the interpreter of one")
    working_directory: str | None = Field(None, description="name of the codeset input to start in; None: scratch")
    env: dict[str, str] = Field(default_factory=dict)
    inputs: list[InputSpec] = Field(default_factory=list)
    outputs: list[OutputSpec] = Field(default_factory=list)
    parameters: list[ParameterSpec] = Field(default_factory=list)
    open_parameters: bool = Field(False, description="accepts parameters beyond those listed, as strings")
    resources: Resources = Field(default_factory=Resources)
    capabilities: dict[str, str] = Field(default_factory=dict, description="such as gpu-type: a100")
    service: ServiceSpec | None = Field(None, description="present when this runs as a service, not as a job")
    timeout: float | None = Field(None, gt=0, description="seconds a job may run; None takes the agent's default")
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_unique(self) -> RunnableDescriptor:
        for what, names in (("input", [i.name for i in self.inputs]), ("output", [o.name for o in self.outputs]),
                            ("parameter", [p.name for p in self.parameters])):
            twice = {n for n in names if names.count(n) > 1}
            if twice:
                msg = f"{what} {sorted(twice)[0]!r} is declared twice"
                raise ValueError(msg)
        wrong = next((name for name in self.environments if not _NAME.match(name)), None)
        if wrong is not None:
            msg = f"environments: {wrong!r} is not a name: use lower-case letters, digits and `_`"
            raise ValueError(msg)
        if self.working_directory and self.working_directory not in {i.name for i in self.inputs}:
            msg = f"working_directory {self.working_directory!r} is not an input"
            raise ValueError(msg)
        return self
