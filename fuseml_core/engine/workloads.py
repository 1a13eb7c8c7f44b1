"""From a bound step to the workload that an agent is given."""

from __future__ import annotations

from typing import Any

from fuseml_core.domain.errors import Unavailable
from fuseml_core.domain.records import Run, Step, Version
from fuseml_core.engine.binding import Bound
from fuseml_core.engine.naming import service_name
from fuseml_core.service.components import Components
from fuseml_sdk.errors import NotReady, PluginError
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactRef,
    Location,
    Resources,
    RunnableDescriptor,
    Workload,
    WorkloadInput,
)


def choose_agent(components: Components, descriptor: RunnableDescriptor) -> tuple[str, list[str]]:
    """Name and accepted location schemes of the first agent that can run a runnable.

    Raises:
        NotReady: One that can, or may be able to, is installed and rests: its extension is disabled, or all are left
            out.
        Unavailable: No agent can, with what each one lacks.
        PluginError: No agent can for now: one that may be able to does not answer at the moment.
    """
    reasons: list[str] = []
    away: PluginError | None = None
    for name, agent in components.agents():
        try:
            description = agent.describe()
        except PluginError as error:
            # One that is away, such as one that somebody else runs, must not keep work from those that are there.
            away = error if error.retryable else away
            reasons.append(f"{name} does not answer: {error.message}")
            continue
        lacking = _lacking(description, descriptor)
        if not lacking:
            return name, list(description.schemes)
        reasons.append(f"{name} {lacking}")
    if away is not None:
        raise away
    for name, told, rest in components.resting_agents():
        # One that was installed while extensions were left out has not described itself yet.
        if told is None or not _lacking(told, descriptor):
            can = "may be able to" if told is None else "can"
            raise NotReady(f"the workload agent {name} {can} run {descriptor.name}, but {rest.reason}", hint=rest.hint)
    raise Unavailable(f"no workload agent can run {descriptor.name}", hint="; ".join(reasons))


def _lacking(description: AgentDescription, descriptor: RunnableDescriptor) -> str:
    """What keeps an agent from running a runnable; empty when it can."""
    kind = "service" if descriptor.service else "job"
    environment = "image" if descriptor.environment.image and not descriptor.environment.lock else "python"
    if kind not in description.kinds:
        return f"runs no {kind}s"
    if environment not in description.environments:
        return f"has no {environment} environments"
    lacking = {k: v for k, v in descriptor.capabilities.items() if description.capabilities.get(k) != v}
    return f"lacks {', '.join(f'{k}={v}' for k, v in lacking.items())}" if lacking else ""


def build(components: Components, run: Run, step: Step, bound: Bound, spec: dict[str, Any], name: str,
          schemes: list[str]) -> Workload:
    """Describe one attempt of a step to an agent; locations are asked for anew each time, being short-lived.

    So are the settings of the extension that brings or built the runnable: an attempt sees those of its start, and a
    service keeps them until it starts again.
    """
    descriptor = bound.runnable.descriptor
    return Workload(
        name=name,
        kind="service" if descriptor.service else "job",
        runnable=descriptor,
        contents=_contents(components, bound, schemes),
        inputs=[_input(components, port, bound, schemes) for port in bound.inputs],
        parameters={n: e["value"] for n, e in bound.parameters.items()},
        env={**components.variables(bound.extension), "FUSEML_PROJECT": run.project, "FUSEML_RUN": run.name,
             "FUSEML_STEP": step.name},
        resources=_resources(descriptor.resources, spec.get("resources") or {}),
        timeout=spec.get("timeout") or descriptor.timeout,
        labels={"project": run.project, "pipeline": run.pipeline, "run": run.name, "step": step.name,
                **({"service": service_name(spec, bound)} if descriptor.service else {})},
    )


def _contents(components: Components, bound: Bound, schemes: list[str]) -> Location | None:
    if bound.runnable.contents:
        return Location(uri=bound.runnable.contents)
    version = bound.runnable.version
    return _locate(components, version, schemes) if version else None


def _input(components: Components, port: str, bound: Bound, schemes: list[str]) -> WorkloadInput:
    spec = next((i for i in bound.runnable.descriptor.inputs if i.name == port), None)
    version = bound.versions.get(port)
    if version is None:
        return WorkloadInput(name=port, kind=spec.kind if spec else "dataset",
                             location=Location(uri=str(bound.inputs[port].value)))
    facts = {**version.metadata, "project": version.project, "name": version.name, "digest": version.digest,
             "address": version.address, "type": version.type}
    return WorkloadInput(name=port, kind=version.kind, location=_locate(components, version, schemes),
                         digest=version.digest, metadata=facts)


def _locate(components: Components, version: Version, schemes: list[str]) -> Location:
    ref = ArtifactRef(kind=version.kind, project=version.project, name=version.name, digest=version.digest)
    return components.store(version.kind, version.store).locate(ref, schemes)


def _resources(declared: Resources, override: dict[str, Any]) -> Resources:
    return declared.model_copy(update={k: v for k, v in override.items() if v is not None})
