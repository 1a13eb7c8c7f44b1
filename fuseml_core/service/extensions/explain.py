"""Why extensions do not fit together, in sentences that name who wants what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resolvelib import ResolutionImpossible

from fuseml_core.domain.errors import Conflict
from fuseml_sdk.versions import Range, Version, parse_range

#: Who asked for a goal.
YOU = "you"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Requirement:
    """An extension that must be there, and who wants it.

    Attributes:
        name: Of the extension.
        range: Acceptable versions.
        wanted_by: `kserve 0.2.0`, or `you`.
        sibling: Reference of who wants it; versions are looked for beside it.
    """

    name: str
    range: Range
    wanted_by: str
    sibling: str = ""


def impossible(title: str, error: ResolutionImpossible[Any, Any], offer: Callable[[str], Sequence[Version]],
               refused: Mapping[str, str]) -> Conflict:
    """One sentence for each need that could not be met together with the others.

    Args:
        title: What was asked for.
        error: Of resolvelib.
        offer: The versions that there are of a name.
        refused: Why versions of a name cannot run here.
    """
    needs: dict[str, dict[str, None]] = {}
    for cause in error.causes:
        need: Requirement = cause.requirement
        by = "you ask for" if need.wanted_by == YOU else f"{need.wanted_by} needs"
        if need.wanted_by not in {YOU} and cause.parent is None:
            by = "installed is"
        needs.setdefault(need.name, {})[f"{by} {need.name} {need.range}"] = None
    sentences = []
    for name, wanted in needs.items():
        there = offer(name)
        shown = ", ".join(map(str, there[:_SHOWN]))
        shown += f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        extra = f" ({refused[name]})" if name in refused else ""
        sentences.append(f"{' and '.join(wanted)}, and there is {shown or 'no version'}{extra}")
    holders = sorted({cause.parent.name for cause in error.causes
                      if cause.parent is not None and cause.parent.installed is not None})
    hint = "Push the missing version to the registry, or install another version of what was asked for."
    if holders:
        hint = (f"Upgrade or uninstall {' and '.join(holders)} first; see: "
                f"fuseml extension upgrade {' '.join(holders)} --dry-run")
    return Conflict(f"{title} cannot be installed: {'; '.join(sentences)}", hint=hint,
                    details={"needs": {name: list(wanted) for name, wanted in needs.items()}})


def check_conflicts(present: Iterable[tuple[str, Version, Sequence[Mapping[str, Any]]]]) -> None:
    """Refuse extensions that say that they do not get on with another one.

    Args:
        present: Name, version and `conflicts` of everything that would be there.

    Raises:
        Conflict: Two do not get on; the message says which and who said so.
    """
    versions = {name: version for name, version, _ in present}
    for name, version, conflicts in present:
        for conflict in conflicts:
            other = versions.get(conflict["name"])
            accepted = conflict.get("range") or "*"
            if other is not None and other in parse_range(accepted):
                raise Conflict(f"{name} {version} conflicts with {conflict['name']} {accepted}, and "
                               f"{conflict['name']} {other} is or would be installed",
                               hint=f"Uninstall one of them: fuseml extension uninstall {conflict['name']}")
