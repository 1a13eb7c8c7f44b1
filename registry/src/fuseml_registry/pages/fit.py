"""What a bundle needs, and whether this server has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ExtensionManifest
from fuseml_sdk.versions import parse_range, parse_version

#: Returns the versions of an extension that the registry holds.
Lookup = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether something fits this server.

    Attributes:
        fits: None when nobody knows: the registry stands alone, and no server asked.
        reason: In one sentence.
    """

    fits: bool | None
    reason: str

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"fits": self.fits, "reason": self.reason}


def in_range(version: str, wanted: str) -> bool:
    """Whether a version is in a range; a broken range fits nothing."""
    try:
        return parse_version(version) in parse_range(wanted)
    except InvalidInput:
        return False


def fit_of(requires: str, engine: str) -> Fit:
    """Judge a range of FuseML versions.

    Args:
        requires: Such as `>=0.1,<1`.
        engine: Version of the server, empty if there is none.
    """
    if not engine:
        return Fit(None, f"It needs FuseML {requires}. This registry serves no one server, so compare with yours.")
    if in_range(engine, requires):
        return Fit(True, f"It needs FuseML {requires}; this server is {engine}.")
    return Fit(False, f"It needs FuseML {requires}, but this server is {engine}.")


def fit_with_dependencies(manifest: ExtensionManifest, requires: str, needs: list[tuple[str, str]], engine: str,
                          look_up: Lookup) -> Fit:
    """Judge a whole bundle: FuseML's version, and whether this registry has the extensions it depends on.

    Args:
        manifest: Of the bundle.
        requires: Range of FuseML versions (a catalog may have corrected it).
        needs: Name and range of each dependency (corrected likewise).
        engine: Version of the server, empty if there is none.
        look_up: Finds versions of extensions.
    """
    first = fit_of(requires, engine)
    if first.fits is False:
        return first
    for name, wanted in needs:
        versions = look_up(name)
        if not versions:
            return Fit(False, f"It needs the extension {name} {wanted}, which this registry does not have.")
        if not any(in_range(version, wanted) for version in versions):
            return Fit(False, f"It needs the extension {name} {wanted}, and this registry has {versions[0]}.")
    if manifest.environment is not None and first.fits:
        return Fit(True, f"{first.reason[:-1]}. Its environment needs Python {manifest.environment.python}.")
    return first
