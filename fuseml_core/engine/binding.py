"""Binding a step: which runnable, which inputs, which parameters, and the fingerprint that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fuseml_core.domain import fingerprints
from fuseml_core.domain.errors import Failed, Invalid
from fuseml_core.domain.parameters import convert
from fuseml_core.domain.records import Binding, Pipeline, Run, Step, Version
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Transaction
from fuseml_sdk import globs
from fuseml_sdk.types import ArtifactRef, ParameterSpec, RunnableDescriptor

#: Files larger than this are never read for detection; listing needs no contents at all.
NO_CONTENTS = 0
#: How the addresses of runnables that extensions bring begin.
_OF_EXTENSIONS = "runnable://fuseml/"


@dataclass(frozen=True, slots=True)
class Runnable:
    """A runnable that a step will execute.

    Attributes:
        address: Where it comes from, for people.
        digest: Its identity.
        descriptor: What it is.
        contents: URI of its files if they lie in an extension; None asks the runnable store.
        version: The artifact version, when an earlier step made it.
    """

    address: str
    digest: str
    descriptor: RunnableDescriptor
    contents: str | None
    version: Version | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """A step ready to run.

    Attributes:
        runnable: What is executed.
        inputs: Bindings by input.
        versions: Artifact versions by input.
        parameters: `value` and `default` by parameter.
        extension: The extension that brings the runnable, or whose step built it; its settings reach the workload.
    """

    runnable: Runnable
    inputs: dict[str, Binding]
    versions: dict[str, Version]
    parameters: dict[str, dict[str, Any]]
    extension: str

    @property
    def is_service(self) -> bool:
        """Whether the step becomes a service instance rather than a job run."""
        return self.runnable.descriptor.service is not None


def dependencies(spec: dict[str, Any]) -> set[str]:
    """Names of the steps that a compiled step needs."""
    sources = [*spec["inputs"].values(), *([spec["from"]] if spec.get("from") else [])]
    return {s.split(".")[0] for s in sources if not s.startswith("inputs.")} | set(spec.get("needs", []))


def bind(tx: Transaction, pipeline: Pipeline, run: Run, name: str) -> Bound:
    """Resolve a step whose dependencies have succeeded.

    Raises:
        Failed: An earlier step did not put out what this one takes.
        Invalid: A parameter does not fit the runnable.
    """
    spec = pipeline.spec["steps"][name]
    steps = {s.name: s for s in tx.steps.of_run(run.id)}
    runnable = _runnable(tx, spec, steps, run, name)
    inputs, versions = {}, {}
    for port, source in spec["inputs"].items():
        binding = _source(tx, run, steps, source)
        if binding is None:
            if any(i.name == port and not i.optional for i in runnable.descriptor.inputs):
                raise Failed(f"the step {name} takes {port} from {source}, which put out nothing")
            continue
        inputs[port] = Binding(port, binding.version_id, binding.value)
        if binding.version_id is not None:
            version = tx.artifacts.get(binding.version_id)
            assert version is not None
            versions[port] = version
    return Bound(runnable, inputs, versions, _parameters(name, spec, runnable.descriptor, run),
                 _extension(pipeline, spec, runnable))


def _extension(pipeline: Pipeline, spec: dict[str, Any], runnable: Runnable) -> str:
    """The extension that brings a runnable, else that of the step which built it, else that of the template."""
    address, steps = runnable.address, pipeline.spec["steps"]
    while not address.startswith(_OF_EXTENSIONS):
        spec = steps.get(str(spec.get("from") or "").partition(".")[0]) or {}
        if not spec:
            return pipeline.extension
        address = (spec.get("runnable") or {}).get("address", "")
    return address.removeprefix(_OF_EXTENSIONS).partition("/")[0]


def _runnable(tx: Transaction, spec: dict[str, Any], steps: dict[str, Step], run: Run, name: str) -> Runnable:
    if name in run.swaps:
        return _pinned(run.swaps[name])
    if not spec.get("from"):
        chosen = spec["runnable"]
        if spec.get("variant_by"):
            value = str(run.parameters.get(spec["variant_by"], {}).get("value", ""))
            chosen = spec["variants"].get(value, chosen)
        return _pinned(chosen)
    binding = _source(tx, run, steps, spec["from"])
    version = tx.artifacts.get(binding.version_id) if binding and binding.version_id else None
    if version is None or "descriptor" not in version.metadata:
        raise Failed(f"{spec['from']} put out no runnable")
    return Runnable(version.address, version.digest, RunnableDescriptor.model_validate(version.metadata["descriptor"]),
                    None, version)


def _pinned(entry: dict[str, Any]) -> Runnable:
    descriptor = RunnableDescriptor.model_validate(entry["descriptor"])
    return Runnable(entry["address"], entry["digest"], descriptor, entry["contents"])


def _source(tx: Transaction, run: Run, steps: dict[str, Step], source: str) -> Binding | None:
    first, _, port = source.partition(".")
    if first == "inputs":
        version_id = tx.runs.inputs(run.id).get(port)
        return Binding(port, version_id) if version_id else None
    found = [b for b in tx.steps.io(steps[first].id, "out") if b.port == port]
    if len(found) > 1:
        raise Failed(f"{source} put out {len(found)} artifacts where one is taken",
                     hint="Log one model, or let a pipeline of its own take them: its trigger fires for each.")
    return found[0] if found else None


def _parameters(step: str, spec: dict[str, Any], descriptor: RunnableDescriptor, run: Run) -> dict[str, dict[str, Any]]:
    declared = {p.name: p for p in descriptor.parameters}
    given: dict[str, dict[str, Any]] = {}
    for name, value in spec["parameters"].items():
        if isinstance(value, str) and value.startswith("{parameters.") and value.endswith("}"):
            entry = run.parameters.get(value[len("{parameters."):-1])
            if entry is not None:
                given[name] = {"value": entry["value"], "default": entry["default"]}
        else:
            given[name] = {"value": value, "default": False}
    if spec.get("open_parameters"):
        for name, entry in run.parameters.items():
            if entry.get("open") and (name in declared or descriptor.open_parameters):
                given[name] = {"value": _open_value(name, entry["value"], spec, declared), "default": False}
            elif entry.get("open"):
                raise Invalid(f"the step {step} has no parameter {name}",
                              hint=f"It has {', '.join(sorted(declared)) or 'none'}.")
    result = {}
    for name, parameter in declared.items():
        entry = given.get(name)
        if entry is None and parameter.default is not None:
            entry = {"value": parameter.default, "default": True}
        if entry is None and parameter.required:
            raise Invalid(f"the step {step} needs a value for the parameter {name}",
                          hint=f"Give it with --param {name}=<{parameter.type}>.")
        if entry is not None:
            result[name] = {**entry, "value": convert(name, parameter.model_dump(), entry["value"])}
    return result | {n: e for n, e in given.items() if n not in declared and descriptor.open_parameters}


def _open_value(name: str, value: Any, spec: dict[str, Any], declared: dict[str, ParameterSpec]) -> Any:
    """A value for the program; `{inputs.<name>}` becomes `{input.<port>}`, the path of the port wired to that input."""
    ports = {f"{{{source}}}": port for port, source in spec["inputs"].items() if source.startswith("inputs.")}
    if not isinstance(value, str) or value not in ports:
        return value
    if name in declared and declared[name].type not in ("path", "uri"):
        raise Invalid(f"the parameter {name} is of type {declared[name].type} and cannot be given a data set",
                      hint="A parameter of type path or uri can.")
    return f"{{input.{ports[value]}}}"


def fingerprint(components: Components, bound: Bound, spec: dict[str, Any], project: str) -> tuple[str, dict[str, Any]]:
    """Digest of everything a step's result depends on, and its parts.

    Runnable, inputs restricted to the change filter, and parameters: one value for caching, change filters and
    reproducibility. Settings of extensions are not part of it: they say where work is done and logged, such as the
    address of a server, and credentials; setting one must not train every model again. What shapes a result has to be
    a parameter, which the run shows. Calls stores, so it must not run inside a transaction.
    """
    filters = {i.name: list(i.filter) for i in bound.runnable.descriptor.inputs} | spec.get("filters", {})
    inputs: dict[str, Any] = {}
    for port, binding in bound.inputs.items():
        version = bound.versions.get(port)
        if version is None:
            inputs[port] = {"value": binding.value}
            continue
        inputs[port] = {"artifact": f"{version.kind}:{version.project}/{version.name}", "filter": filters.get(port, []),
                        "digest": _restricted(components, version, filters.get(port, []))}
    parts = {
        "project": project,
        "runnable": [bound.runnable.descriptor.name, bound.runnable.digest],
        "inputs": inputs,
        "parameters": {name: entry["value"] for name, entry in bound.parameters.items()},
    }
    return fingerprints.digest(parts), parts


def _restricted(components: Components, version: Version, patterns: list[str]) -> str:
    if not patterns:
        return version.digest
    return fingerprints.tree_digest(_files(components, version, patterns))


def _files(components: Components, version: Version, patterns: list[str]) -> list[tuple[str, str, bool]]:
    ref = ArtifactRef(kind=version.kind, project=version.project, name=version.name, digest=version.digest)
    listing = components.store(version.kind, version.store).files(ref, [], NO_CONTENTS)
    return [(f.path, f.digest, f.executable) for f in listing.files if globs.matches(f.path, patterns)]


def explain_change(components: Components, parts: dict[str, Any], before: dict[str, Any],
                   now: dict[str, Version], then: dict[str, Version]) -> str:
    """Why a step runs again although it ran before: what differs between two sets of fingerprint parts."""
    reasons = []
    if parts["runnable"] != before.get("runnable"):
        reasons.append(f"the runnable {parts['runnable'][0]} is new")
    for port, entry in parts["inputs"].items():
        if entry != before.get("inputs", {}).get(port):
            reasons.append(f"{port} changed{_changed_files(components, entry, now.get(port), then.get(port))}")
    changed = [n for n, v in parts["parameters"].items() if before.get("parameters", {}).get(n) != v]
    if changed:
        reasons.append(f"parameters changed: {', '.join(sorted(changed))}")
    return "; ".join(reasons) or "its earlier result is gone"


def _changed_files(components: Components, entry: dict[str, Any], now: Version | None, then: Version | None) -> str:
    if now is None or then is None or now.kind != "codeset":
        return ""
    patterns = entry.get("filter") or []
    old, new = (set(_files(components, v, patterns)) for v in (then, now))
    paths = sorted({path for path, _, _ in old ^ new})
    return f" ({', '.join(paths[:3])}{', …' if len(paths) > 3 else ''})" if paths else ""
