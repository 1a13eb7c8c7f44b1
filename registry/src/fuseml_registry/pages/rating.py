"""The level of a version: what tests of its plugins reached, as far as what is attached and signed bears it out.

A scorecard says what the conformance kit saw. The author sends it, so a marketplace looks for itself whether it is
about this bundle, who signed both, and what is known of their origin; nothing of that can be claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: From the lowest to the highest; those of `fuseml_sdk.testing`.
LEVELS = ("bronze", "silver", "gold", "platinum")
_NONE = "none"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a marketplace sees of a version."""

    card: Mapping[str, Any] | None
    signers: Sequence[str]
    attachments: Sequence[Mapping[str, Any]]

    def tested(self, level: str) -> str:
        """What the scorecard reached, if that is as high as a level."""
        reached = self.card["scorecard"]["level"] if self.card else _NONE
        return reached if reached in LEVELS[LEVELS.index(level):] else ""

    def attached(self, kind: str) -> str:
        """Who signed an attachment of a kind, among known keys."""
        return _names([name for each in self.attachments if each["kind"] == kind for name in each["signed_by"]])


#: What a level needs beyond the tests of that level: its title, and who or what meets it, empty if nothing does.
_CRITERIA: Mapping[str, tuple[tuple[str, Callable[[_Evidence], str]], ...]] = {
    "bronze": (("A scorecard is attached that is about the wheels of this bundle",
                lambda seen: seen.card["label"] if seen.card else ""),),
    "silver": (("A known key signed the bundle", lambda seen: _names(seen.signers)),
               ("A known key signed the scorecard", lambda seen: _names(seen.card["signed_by"]) if seen.card else "")),
    "gold": (("A known key signed a bill of materials", lambda seen: seen.attached("sbom")),),
    "platinum": (("A known key signed where it comes from", lambda seen: seen.attached("provenance")),),
}


def rate(attachments: Sequence[Mapping[str, Any]], signers: Sequence[str]) -> dict[str, Any]:
    """Compute the level of a version.

    Args:
        attachments: As `fuseml_registry.pages.attachments.attachments` describes them.
        signers: Names of the known keys that signed the bundle.

    Returns:
        `level`: the highest one of which, as of those below it, all criteria are met; `none` without one.
        `criteria`: `level`, `title`, `met`, and who or what meets it (`seen`), from the lowest level to the highest.
    """
    cards = [each for each in attachments if each["scorecard"] and not each["scorecard"]["misfit"]]
    # A signed one tells more than one that anybody could have written; of several, the newest counts.
    card = max(cards, key=lambda each: (bool(each["signed_by"]), each["created_at"]), default=None)
    seen = _Evidence(card, signers, attachments)
    criteria = []
    for level in LEVELS:
        criteria.append(_criterion(level, f"The rules of the level {level} are kept", seen.tested(level)))
        criteria += [_criterion(level, title, look(seen)) for title, look in _CRITERIA[level]]
    reached = _NONE
    for level in LEVELS:
        if not all(each["met"] for each in criteria if each["level"] == level):
            break
        reached = level
    return {"level": reached, "criteria": criteria}


def _criterion(level: str, title: str, seen: str) -> dict[str, Any]:
    return {"level": level, "title": title, "met": bool(seen), "seen": seen}


def _names(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
