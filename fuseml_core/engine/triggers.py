"""Matching one artifact version against the triggers that wait for its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fuseml_core.domain.addresses import Address, Selector, parse_address, parse_selector
from fuseml_core.domain.errors import Invalid
from fuseml_core.domain.records import Pipeline, Trigger, Version
from fuseml_core.service.ports import Transaction


@dataclass(frozen=True, slots=True)
class Match:
    """A version that a trigger covers: either it binds these inputs, or `reason` says why not."""

    trigger: Trigger
    inputs: dict[str, Version] | None
    reason: str


def matches(tx: Transaction, version: Version, branch: str, default_branch: str) -> list[Match]:
    """Ask every enabled trigger about a version.

    Args:
        tx: The transaction in which the version is registered.
        version: The version, with its aliases.
        branch: For a codeset, the branch it was pushed to; empty otherwise.
        default_branch: For a codeset, the branch whose tip is the current code.

    Returns:
        One match for each trigger whose selector covers the artifact's name.
    """
    found = []
    for trigger in tx.pipelines.triggers(version.kind, version.project, version.name):
        selector = parse_selector(trigger.selector, trigger.project)
        if selector.covers(version.kind, version.project, version.name):
            found.append(match_one(tx, trigger, selector, version, branch, default_branch))
    return found


def match_one(tx: Transaction, trigger: Trigger, selector: Selector, version: Version, branch: str,
              default_branch: str) -> Match:
    """Decide whether a version that a selector covers binds the trigger's input."""
    reason = _refusal(trigger, selector, version, branch, default_branch)
    if reason:
        return Match(trigger, None, reason)
    pipeline = tx.pipelines.by_id(trigger.pipeline_id)
    if pipeline is None:
        return Match(trigger, None, "the pipeline was removed")
    inputs, missing = complete(tx, pipeline, {trigger.input: version})
    if missing:
        return Match(trigger, None, missing)
    return Match(trigger, inputs, "matches " + trigger.selector)


def complete(tx: Transaction, pipeline: Pipeline, bound: dict[str, Version], *,
             wait: bool = True) -> tuple[dict[str, Version], str]:
    """Bind the inputs that are not bound yet to the newest version that fits.

    Args:
        tx: An open transaction.
        pipeline: Whose inputs are bound.
        bound: What is bound already.
        wait: Whether an optional input that the pipeline follows is waited for too, or left out.

    Returns:
        All bindings, and a sentence about what is missing, or an empty one.
    """
    inputs = dict(bound)
    for name, spec in pipeline.spec["inputs"].items():
        if name in inputs or name not in pipeline.inputs:
            continue
        version = newest(tx, pipeline, name)
        if version is not None:
            inputs[name] = version
        elif wait or not spec.get("optional"):
            return inputs, f"waits for the input {name}: nothing matches {pipeline.inputs[name]} yet"
    return inputs, ""


def newest(tx: Transaction, pipeline: Pipeline, name: str) -> Version | None:
    """The newest version that an input of a pipeline can take."""
    text, types = pipeline.inputs[name], tuple(pipeline.spec["inputs"][name].get("types", []))
    if is_fixed(text):
        return next(iter(tx.artifacts.find(parse_address(text, pipeline.project))), None)
    return next((v for v in current_matches(tx, text, pipeline.project, types)), None)


def is_fixed(text: str) -> bool:
    """Whether an input is bound to one version rather than to a selector."""
    return "@" in text or not _selects(text)


def bound_kind(text: str, project: str) -> str:
    """The artifact kind that an input is bound to, by a selector or by the address of one version.

    Raises:
        Invalid: The text is neither.
    """
    return parse_address(text, project).kind if is_fixed(text) else parse_selector(text, project).kind


def _selects(text: str) -> bool:
    try:
        selector = parse_selector(text, "default")
    except Invalid:
        return False
    return selector.is_wild or "/" not in selector.name


def current_matches(tx: Transaction, text: str, project: str, types: tuple[str, ...]) -> list[Version]:
    """For each name that a selector covers, the version that stands for it now, newest first."""
    selector = parse_selector(text, project)
    found = []
    for row in tx.artifacts.names(selector.kind, None):
        if not selector.covers(selector.kind, row["project"], row["name"]):
            continue
        version, branch = _standing(tx, selector, row)
        trigger = Trigger(0, 0, "", project, "", text, types)
        if version and not _refusal(trigger, selector, version, branch, row["default_branch"]):
            found.append(version)
    # Ids are given one after the other under the lock of deciding; clocks may go back.
    return sorted(found, key=lambda v: v.id, reverse=True)


def _standing(tx: Transaction, selector: Selector, row: dict[str, Any]) -> tuple[Version | None, str]:
    """The version of a name that a selector means now, and the branch whose tip it is."""
    branch = next((value for key, sign, value in selector.predicates if (key, sign) == ("branch", "=")), "")
    if not (branch or selector.alias):
        return tx.artifacts.current(selector.kind, row["project"], row["name"]), row["default_branch"]
    address = Address(selector.kind, row["project"], row["name"], alias=branch or selector.alias)
    return next(iter(tx.artifacts.find(address)), None), branch or row["default_branch"]


def _refusal(trigger: Trigger, selector: Selector, version: Version, branch: str, default_branch: str) -> str:
    """Why a version that the selector covers by name is not taken, or an empty string."""
    branches = [p for p in selector.predicates if p[0] == "branch"]
    if branch and not branches and branch != default_branch:
        return (f"it was pushed to the branch {branch}, not to the default branch {default_branch}; "
                f"a selector takes it with ?branch={branch}")
    # Of a codeset, every push is the latest of its branch; of other kinds `latest` is an alias that moves.
    carried = ("latest", *version.aliases) if version.kind == "codeset" else version.aliases
    if selector.alias and selector.alias not in carried:
        return f"it does not carry the alias {selector.alias}"
    for key, operator, wanted in selector.predicates:
        actual = {"type": version.type or "", "branch": branch}.get(key, version.labels.get(key[6:], ""))
        if (actual == wanted) != (operator == "="):
            return f"{key} is {actual or 'not set'}, the selector asks for {key}{operator}{wanted}"
    return type_refusal(trigger.types, version)


def type_refusal(types: tuple[str, ...], version: Version) -> str:
    """Why an input of some types does not take a version, or an empty string; no types take everything."""
    if not types or any(_is_type(version.type, wanted) for wanted in types):
        return ""
    why = version.metadata.get("detection") or (f"its type is {version.type}" if version.type else "it has no type")
    return f"it is not of type {' or '.join(types)} ({why})"


def _is_type(actual: str | None, wanted: str) -> bool:
    # A type may have a flavour behind a slash: `mlflow/sklearn` is an `mlflow`.
    return actual == wanted or (actual or "").startswith(wanted + "/")
