"""Compare two contracts, as documents, and judge every difference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fuseml_sdk.compatibility.rules import RULES, VERDICTS, Flow, Verdict
from fuseml_sdk.compatibility.values import Comparison

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two contracts, judged.

    Attributes:
        place: Hook, type and field, or file and field.
        what: What is different now.
        flow: `arguments` (the server writes, plugins read), `result` (the other way), `file`, `hook` or `contract`.
        verdict: See :data:`fuseml_sdk.compatibility.rules.Verdict`.
        reason: Why.
        hooks: The hooks in which it is met; empty for files.
    """

    place: str
    what: str
    flow: Flow
    verdict: Verdict
    reason: str
    hooks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As data."""
        return {**asdict(self), "hooks": list(self.hooks)}

    def __str__(self) -> str:
        return f"{self.verdict}: {self.place} ({self.flow}): {self.what}: {self.reason}"


def compare(old: Document, new: Document) -> list[Change]:
    """Judge what is different in `new`, harmful changes first.

    Args:
        old: What plugins were built on.
        new: What the server has now.

    Returns:
        The changes; the same change of a type that several hooks use is one, with all these hooks.
    """
    merged: dict[tuple[str, str, str], Change] = {}
    for change in _changes(old, new):
        key = (change.place, change.what, change.flow)
        known = merged.get(key, change)
        heavier = max(known, change, key=lambda each: VERDICTS.index(each.verdict))
        merged[key] = replace(heavier, hooks=tuple(dict.fromkeys((*known.hooks, *change.hooks))))
    return sorted(merged.values(), key=lambda each: (-VERDICTS.index(each.verdict), each.place, each.flow))


def worst(changes: Iterable[Change]) -> Verdict:
    """The verdict on all of them together."""
    return max((change.verdict for change in changes), key=VERDICTS.index, default="compatible")


def _changes(old: Document, new: Document) -> Iterator[Change]:
    if old.get("protocol") != new.get("protocol"):
        yield _change("protocol", "contract", "protocol", f"{new.get('protocol')} instead of {old.get('protocol')}")
    before, after = old.get("hooks") or {}, new.get("hooks") or {}
    for hook in [*before, *(name for name in after if name not in before)]:
        if not _equal(before.get(hook), after.get(hook)):
            yield from _hook(hook, before.get(hook), after.get(hook))
    yield from _errors(old.get("errors") or {}, new.get("errors") or {})
    yield from _formats(old.get("formats") or {}, new.get("formats") or {})


def _equal(old: Any, new: Any) -> bool:
    """Whether two documents are the same text; to Python false is 0, to JSON it is not."""
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


def _hook(name: str, old: Document | None, new: Document | None) -> Iterator[Change]:
    if new is None:
        yield _change(name, "hook", "hook-removed", "removed", name)
        return
    if old is None:
        required = bool(new.get("required"))
        yield _change(name, "hook", "required-hook-added" if required else "hook-added",
                      "added, required" if required else "added, optional", name)
        return
    if bool(old.get("required")) != bool(new.get("required")):
        now = bool(new.get("required"))
        yield _change(name, "hook", "hook-now-required" if now else "hook-now-optional",
                      "required now" if now else "optional now", name)
    if old.get("idempotent") != new.get("idempotent"):
        now = bool(new.get("idempotent"))
        yield _change(name, "hook", "now-idempotent" if now else "no-longer-idempotent",
                      "idempotent now" if now else "not idempotent any more", name)
    for key in ("family", "route"):
        if old.get(key) != new.get(key):
            yield _change(name, "hook", "moved", f"{key} {new.get(key)} instead of {old.get(key)}", name)
    for flow in ("arguments", "result"):
        comparison = Comparison(old[flow], new[flow])
        place = name if flow == "arguments" else f"{name} → "
        for found in comparison.values(_bare(old[flow]), _bare(new[flow]), place):
            yield _change(_place(name, found.place, flow), flow, found.kind, found.what, name)


def _bare(schema: Document) -> Document:
    """Arguments and results without the title that pydantic makes up for them."""
    titled = "$ref" not in schema and schema.get("type") == "object" and str(schema.get("title", "")).endswith(
        "_arguments")
    return {key: value for key, value in schema.items() if key != "title"} if titled else schema


def _place(hook: str, found: str, flow: str) -> str:
    """`store_get.ref` of arguments becomes `store_get(ref)`; types keep their own names."""
    if flow == "arguments" and found.startswith(f"{hook}."):
        argument, *rest = found.removeprefix(f"{hook}.").split(".")
        name, bracket, entries = argument.partition("[")
        return ".".join([f"{hook}({name}){bracket}{entries}", *rest])
    return found.strip()


def _errors(old: Document, new: Document) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield _change(f"error {name}", "contract", "error-removed", "removed")
        elif name not in old:
            yield _change(f"error {name}", "contract", "error-added", "added")
        elif old[name] != new[name]:
            yield _change(f"error {name}", "contract", "error-changed", f"{new[name]} instead of {old[name]}")


def _formats(old: Document, new: Document) -> Iterator[Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            yield _change(f"file {name}", "contract", "format-removed", "removed")
        elif name not in old:
            yield _change(f"file {name}", "contract", "format-added", "added")
        elif not _equal(old[name], new[name]):
            for found in Comparison(old[name], new[name]).values(old[name], new[name], name):
                yield _change(found.place, "file", found.kind, found.what)


def _change(place: str, flow: Any, kind: str, what: str, hook: str = "") -> Change:
    rule = RULES[kind, flow]
    return Change(place, what, flow, rule.verdict, rule.reason, (hook,) if hook else ())
