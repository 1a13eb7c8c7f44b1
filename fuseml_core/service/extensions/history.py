"""Generations for people and programs: which there are and what each changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseml_core.domain.extensions import Generation, Member
from fuseml_core.service.extensions.plan import trust_view
from fuseml_sdk.versions import parse_version


def history_view(generations: Sequence[Generation]) -> list[dict[str, Any]]:
    """Each generation as a dictionary, the newest first.

    Args:
        generations: The newest first.

    Returns:
        `number`, `current`, `state`, `cause`, `note`, `created_at`, `changes` against the generation before it (empty
        for the oldest that is kept, unless it is the first) and `members`.
    """
    before = [*generations, Generation(0, "", 0.0, ())][1:]
    return [{
        "number": generation.number, "current": index == 0, "state": generation.state.value,
        "cause": generation.cause, "note": generation.note, "created_at": generation.created_at,
        "changes": _changes(earlier, generation) if earlier.number == generation.number - 1 else [],
        "members": [_member(member) for member in generation.members],
    } for index, (generation, earlier) in enumerate(zip(generations, before, strict=True))]


def _changes(earlier: Generation, later: Generation) -> list[str]:
    lines = []
    for name in sorted({member.name for member in (*earlier.members, *later.members)}):
        old, new = earlier.member(name), later.member(name)
        if old is None and new is not None:
            lines.append(f"+ {name} {new.version}")
        elif new is None and old is not None:
            lines.append(f"- {name} {old.version}")
        elif old is not None and new is not None and old.digest != new.digest:
            arrow = "↓" if parse_version(new.version) < parse_version(old.version) else "↑"
            lines.append(f"{arrow} {name} {old.version} → {new.version}")
    return lines


def _member(member: Member) -> dict[str, Any]:
    return {"name": member.name, "version": member.version, "digest": member.digest, "reference": member.reference,
            "requested": member.requested, "channel": member.channel, "trust": trust_view(member.trust)}
