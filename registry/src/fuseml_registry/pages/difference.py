"""What changed between two versions of a bundle: what it may do, what it needs, what it brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fuseml_registry.pages.contents import settings
from fuseml_registry.pages.holdings import Bundle
from fuseml_registry.pages.text import size_text


def difference(old: Bundle, new: Bundle) -> dict[str, Any]:
    """Compare two versions.

    Returns:
        `old`, `new` (versions) and `sections`: title and changes, each with `what`, `change` (added, removed,
        changed), `before` and `after`. Sections without changes are left out.
    """
    first, second = _facts(old), _facts(new)
    sections = [{"title": title, "changes": changes} for title in first
                if (changes := _changes(first[title], second[title]))]
    return {"old": old.descriptor.version, "new": new.descriptor.version, "old_digest": old.digest,
            "new_digest": new.digest, "sections": sections}


def _facts(bundle: Bundle) -> dict[str, dict[str, str]]:
    descriptor, manifest = bundle.descriptor, bundle.descriptor.manifest
    environment = manifest.environment
    return {
        "Permissions": {entry.name: entry.reason for entry in manifest.permissions},
        "Dependencies": {entry.name: entry.range for entry in manifest.dependencies},
        "Conflicts": {entry.name: entry.range for entry in manifest.conflicts},
        "Needs": {"FuseML": manifest.requires_fuseml, **({"Python": environment.python} if environment else {})},
        "Templates": {entry.name: _inputs(entry.model_dump(mode="json")) for entry in descriptor.templates},
        "Runnables": {entry.name: _inputs(entry.model_dump(mode="json")) for entry in descriptor.runnables},
        "Components": {f"{entry.family} {entry.name}": entry.plugin or entry.address for entry in manifest.components},
        "Settings": {entry["name"]: f"{entry['type']}{', secret' if entry['secret'] else ''}"
                     for entry in settings(manifest)},
        "About": {"Summary": manifest.summary, "Licence": manifest.licence},
        "Parts": {_part(layer.kind, layer.title): f"{size_text(layer.size)} · {layer.digest}"
                  for layer in descriptor.layers},
    }


def _inputs(document: Mapping[str, Any]) -> str:
    """A line that differs when the interface does."""
    def names(value: Any) -> Iterable[str]:
        for entry in value.items() if isinstance(value, dict) else [(e["name"], e) for e in value or ()]:
            yield f"{entry[0]} ({entry[1].get('kind') or entry[1].get('type') or entry[1].get('from_') or ''})"

    parts = [f"{title}: {', '.join(names(document.get(title)))}" for title in ("inputs", "parameters", "outputs")
             if document.get(title)]
    steps = document.get("steps")
    return "; ".join([*parts, *([f"steps: {', '.join(steps)}"] if steps else [])])


def _part(kind: str, title: str) -> str:
    """Name of a layer; a wheel keeps its name when its version changes."""
    return f"wheel {title.partition('-')[0]}" if kind == "wheel" else title


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[dict[str, str]]:
    changes = []
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name), after.get(name)
        if old != new:
            change = "added" if old is None else "removed" if new is None else "changed"
            changes.append({"what": name, "change": change, "before": old or "", "after": new or ""})
    return changes
