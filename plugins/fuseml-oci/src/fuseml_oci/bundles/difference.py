"""What changes from one bundle to another: for whoever upgrades, reviews or debugs a build."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from packaging.utils import canonicalize_name

from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_sdk.manifest import show_limit

Kind = Literal["added", "removed", "changed"]
#: Parts in the order in which they matter.
PARTS = ("manifest", "dependencies", "conflicts", "permissions", "settings", "components", "limits", "runnables",
         "templates", "lock", "files", "layers")
_PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s\\]+)([^\\\n]*)")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        part: One of PARTS.
        kind: What happened to it.
        name: Which one.
        old: As it was, for people; empty if it was not there.
        new: As it is.
    """

    part: str
    kind: Kind
    name: str
    old: str = ""
    new: str = ""

    def to_json(self) -> dict[str, str]:
        """The change as a JSON object."""
        return asdict(self)


def compare(old: ExtensionDescriptor, new: ExtensionDescriptor, old_lock: str = "", new_lock: str = "") -> list[Change]:
    """Return all differences, in the order of PARTS and of names.

    Args:
        old: What was.
        new: What is.
        old_lock: Text of its lock.
        new_lock: Text of the other's.
    """
    views: Mapping[str, Callable[[ExtensionDescriptor], dict[str, str]]] = {
        "manifest": _manifest, "dependencies": lambda d: {e.name: e.range for e in d.manifest.dependencies},
        "conflicts": lambda d: {e.name: e.range for e in d.manifest.conflicts},
        "permissions": lambda d: {e.name: e.reason for e in d.manifest.permissions},
        "settings": lambda d: {name: _short(schema) for name, schema in
                               (d.manifest.config_schema.get("properties") or {}).items()},
        "components": lambda d: {f"{c.family} {c.name}": c.plugin or c.address for c in d.manifest.components},
        "limits": lambda d: {f"{c.family} {c.name} {limit}": show_limit(limit, value) for c in d.manifest.components
                             for limit, value in c.limits.wanted().items()},
        "runnables": lambda d: {r.name: _short(r.model_dump(mode="json", exclude_defaults=True)) for r in d.runnables},
        "templates": lambda d: {t.name: _short(t.model_dump(mode="json", by_alias=True, exclude_defaults=True))
                                for t in d.templates},
        "files": lambda d: {f.path: f"{f.digest}{' executable' if f.executable else ''}" for f in d.files},
        "layers": lambda d: {layer.title: f"{layer.size} bytes {layer.digest}" for layer in d.layers},
    }
    changes = []
    for part in PARTS:
        before, after = ((_pins(old_lock), _pins(new_lock)) if part == "lock"
                         else (views[part](old), views[part](new)))
        changes += list(_changes(part, before, after))
    return changes


def _changes(part: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change(part, "added", name, "", new[name])
        elif name not in new:
            yield Change(part, "removed", name, old[name], "")
        elif old[name] != new[name]:
            yield Change(part, "changed", name, *_where_they_differ(old[name], new[name]))


def _manifest(descriptor: ExtensionDescriptor) -> dict[str, str]:
    manifest = descriptor.manifest
    fields = {name: getattr(manifest, name) for name in
              ("name", "version", "summary", "description", "licence", "icon", "requires_fuseml")}
    environment = manifest.environment
    return {**{name: str(value) for name, value in fields.items() if value},
            **{f"links.{name}": address for name, address in manifest.links.items()},
            **({"environment.python": environment.python} if environment else {}),
            **{f"lint.{e.rule}{f' {e.where}' if e.where else ''}": e.reason for e in manifest.lint}}


def _pins(lock: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, version, rest in _PIN.findall(lock):
        found.setdefault(canonicalize_name(name), []).append(f"{version}{rest.rstrip()}")
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def _where_they_differ(old: str, new: str, room: int = 160) -> tuple[str, str]:
    """Two texts from shortly before the place where they begin to differ, if they are long."""
    if max(len(old), len(new)) <= room:
        return old, new
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - 40)
    return _cut(old, start, room), _cut(new, start, room)


def _cut(text: str, start: int, room: int) -> str:
    return f"{'…' if start else ''}{text[start:start + room]}{'…' if len(text) > start + room else ''}"


def _short(value: Any) -> str:
    """A value in one line, mappings in the order of their keys."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(value[key])}" for key in sorted(value)) + "}"
    return "[" + ", ".join(map(_short, value)) + "]" if isinstance(value, list) else str(value)
