"""What differs between two versions of an extension, or between two generations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from fuseml_core.domain.errors import Invalid, NotFound
from fuseml_core.domain.extensions import Generation, InstalledExtension
from fuseml_core.service.extensions.ports import Bundles, FoundBundle, Generations, InstalledExtensions, Wish

_NUMBER = re.compile(r"[0-9]{1,9}")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.-]*")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    Attributes:
        part: `version`, `permission`, `setting`, `component`, `template`, `input`, `parameter`, `runnable`,
            `dependency`, `conflict`, `package`, `extension`, …
        name: What it is called there.
        change: `added`, `removed` or `changed`.
        before: As it was, for people; empty when it was not there.
        after: As it is in the other one.
    """

    part: str
    name: str
    change: str
    before: str = ""
    after: str = ""


class PackageLocks(Protocol):
    """The locked requirements of bundles."""

    def pins(self, bundle: FoundBundle | InstalledExtension) -> Mapping[str, str]:
        """Version by name of the distributions in the lock; nothing if the bundle has none."""
        ...


class Differ:
    """The use case *diff*.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        bundles: Registries.
        locks: Reads locks of bundles.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, bundles: Bundles,
                 locks: PackageLocks) -> None:
        self._records, self._generations, self._bundles, self._locks = records, generations, bundles, locks

    def diff(self, a: str, b: str = "", wish: Wish | None = None) -> dict[str, Any]:
        """Compare two generations, two references, or what is installed with what is available.

        Args:
            a: A number of a generation, a name or a reference.
            b: The same, or a version of `a`. By default the generation in force, or the best version available.
            wish: Which versions may be chosen.

        Returns:
            `kind` (`generations` or `extensions`), `before`, `after` and `changes`.

        Raises:
            Invalid, NotFound, Unavailable, Failed: There is no such thing to compare.
        """
        if _NUMBER.fullmatch(a):
            return self._generations_diff(a, b)
        before: FoundBundle | InstalledExtension | None = self._installed(a)
        after = self._found(a, b, wish or Wish())
        if before is None and not b:
            raise NotFound(f"the extension {a!r} is not installed, so there is nothing to compare",
                           hint=f"Name two versions, or look at one: fuseml extension info {a}")
        before = before or self._bundles.find(a, wish or Wish())
        changes = list(compare(before.descriptor, after.descriptor, self._locks.pins(before), self._locks.pins(after)))
        return {"kind": "extensions", "before": _side(before), "after": _side(after),
                "changes": [asdict(change) for change in changes]}

    def _installed(self, name: str) -> InstalledExtension | None:
        return self._records.get(name) if ":" not in name and "/" not in name and "@" not in name else None

    def _found(self, a: str, b: str, wish: Wish) -> FoundBundle:
        name = a if not b else f"{_repository(a)}:{b}" if _VERSION.fullmatch(b) else b
        if not b:
            active = self._installed(a)
            offered = self._bundles.versions(active.reference, active.name, wish) if active is not None else []
            best = next((offer.version for offer in offered if not offer.yanked), "")
            if active is not None and best:
                return self._bundles.find_version(active.reference, active.name, best, wish)
        return self._bundles.find(name, wish)

    def _generations_diff(self, a: str, b: str) -> dict[str, Any]:
        if b and not _NUMBER.fullmatch(b):
            raise Invalid(f"{a} is a generation and {b!r} is not", hint="See: fuseml extension history")
        before = self._generation(int(a))
        after = self._generation(int(b)) if b else self._generations.current()
        changes = list(_members(before, after))
        return {"kind": "generations", "before": _generation_side(before), "after": _generation_side(after),
                "changes": [asdict(change) for change in changes]}

    def _generation(self, number: int) -> Generation:
        found = self._generations.get(number)
        if found is None:
            kept = ", ".join(str(generation.number) for generation in self._generations.list()) or "none"
            raise NotFound(f"there is no generation {number}", hint=f"Kept are {kept}; see: fuseml extension history")
        return found


def compare(before: Mapping[str, Any], after: Mapping[str, Any], pins_before: Mapping[str, str],
            pins_after: Mapping[str, str]) -> Iterator[Difference]:
    """What differs between two descriptors and their locks, in the order in which people want to know."""
    old, new = before["manifest"], after["manifest"]
    yield from _scalars(old, new, ("name", "version", "summary", "licence", "requires_fuseml"))
    yield from _named("permission", old, new, "permissions", lambda p: str(p.get("reason") or ""))
    yield from _maps("setting", _properties(old), _properties(new), _schema_text)
    yield from _named("dependency", old, new, "dependencies", lambda d: str(d.get("range") or "*"))
    yield from _named("conflict", old, new, "conflicts", lambda d: str(d.get("range") or "*"))
    yield from _named("component", old, new, "components", _component_text)
    yield from _templates(before, after)
    yield from _named("runnable", before, after, "runnables", _runnable_text)
    environment = [str((m.get("environment") or {}).get("python") or "") for m in (old, new)]
    yield from _maps("python", {"environment": environment[0]} if environment[0] else {},
                     {"environment": environment[1]} if environment[1] else {}, str)
    yield from _maps("package", pins_before, pins_after, str)
    yield from _maps("file", _files(before), _files(after), lambda text: text[:19] + "…")


def _component_text(component: Mapping[str, Any]) -> str:
    """What runs it, and what it states about limits."""
    limits = [f"{limit} {value}" for limit, value in (component.get("limits") or {}).items()]
    return ", ".join([f"{component.get('family')} {component.get('plugin') or component.get('address')}", *limits])


def _templates(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = _by_name(before, "templates"), _by_name(after, "templates")
    yield from _maps("template", old, new, lambda t: str(t.get("summary") or ""), quiet=True)
    for name in sorted(old.keys() & new.keys()):
        for part, key in (("input", "inputs"), ("parameter", "parameters"), ("output", "outputs"), ("step", "steps")):
            for change in _maps(part, _entries(old[name], key), _entries(new[name], key), _text):
                yield Difference(part, f"{name}.{change.name}", change.change, change.before, change.after)


def _scalars(old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> Iterator[Difference]:
    for key in keys:
        values = [str(side.get(key) or "") for side in (old, new)]
        if values[0] != values[1]:
            change = "added" if not values[0] else "removed" if not values[1] else "changed"
            yield Difference(key, key, change, *values)


def _named(part: str, old: Mapping[str, Any], new: Mapping[str, Any], key: str,
           show: Callable[[Any], str]) -> Iterator[Difference]:
    yield from _maps(part, _by_name(old, key), _by_name(new, key), show)


def _maps(part: str, old: Mapping[str, Any], new: Mapping[str, Any], show: Callable[[Any], str], *,
          quiet: bool = False) -> Iterator[Difference]:
    """What differs between two maps; `quiet` leaves out changes of what is in both."""
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Difference(part, name, "added", "", show(new[name]))
        elif name not in new:
            yield Difference(part, name, "removed", show(old[name]), "")
        elif old[name] != new[name] and not quiet:
            yield Difference(part, name, "changed", show(old[name]), show(new[name]))


def _members(before: Generation, after: Generation) -> Iterator[Difference]:
    old = {member.name: member for member in before.members}
    new = {member.name: member for member in after.members}
    for name in sorted(old.keys() | new.keys()):
        sides = [side.get(name) for side in (old, new)]
        texts = ["" if member is None else f"{member.version} ({member.digest[7:19]})" for member in sides]
        if texts[0] != texts[1]:
            change = "added" if not texts[0] else "removed" if not texts[1] else "changed"
            yield Difference("extension", name, change, *texts)


def _by_name(side: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {str(entry["name"]): entry for entry in side.get(key) or []}


def _properties(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return dict((manifest.get("config_schema") or {}).get("properties") or {})


def _files(descriptor: Mapping[str, Any]) -> dict[str, str]:
    """Files that no other part of the comparison is about."""
    return {str(file["path"]): str(file["digest"]) for file in descriptor.get("files") or []
            if not str(file["path"]).startswith(("templates/", "runnables/", "requirements.lock"))}


def _entries(template: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = template.get(key) or {}
    return dict(value) if isinstance(value, Mapping) else {str(entry.get("name")): entry for entry in value}


def _schema_text(schema: Any) -> str:
    return f"{schema.get('type') or 'any'}" + (f", default {schema['default']}" if "default" in schema else "")


def _runnable_text(runnable: Mapping[str, Any]) -> str:
    return str(runnable.get("kind") or "")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        parts = (f"{key} {_text(entry)}" for key, entry in sorted(value.items()) if entry not in (None, "", [], {}))
        return ", ".join(parts)
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _repository(reference: str) -> str:
    """A reference without tag and digest."""
    base = reference.partition("@")[0]
    head, slash, last = base.rpartition("/")
    return head + slash + last.partition(":")[0]


def _side(bundle: FoundBundle | InstalledExtension) -> dict[str, Any]:
    return {"name": bundle.name, "version": bundle.version, "digest": bundle.digest, "reference": bundle.reference,
            "installed": isinstance(bundle, InstalledExtension)}


def _generation_side(generation: Generation) -> dict[str, Any]:
    return {"generation": generation.number, "cause": generation.cause, "created_at": generation.created_at}
