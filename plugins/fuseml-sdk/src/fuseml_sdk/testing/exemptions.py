"""Rules that a plugin may fail, each with a reason: `exempt=` of `conformance()`, and `conformance.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_sdk.errors import InvalidInput

#: Name of the file beside `pyproject.toml`.
BASELINE = "conformance.toml"
_SHORTEST_REASON = 10


@dataclass(frozen=True)
class Exemptions:
    """Reasons by rule id, or by `RULE/host` for one host alone."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from fuseml_sdk.testing.rules import all_rules

        known = {rule.id for rule in all_rules()}
        for key, reason in self.reasons.items():
            if key.partition("/")[0] not in known:
                raise InvalidInput(f"an exemption names the rule {key!r}, which does not exist",
                                   hint="docs/reference/conformance-rules.md lists them.")
            if len(str(reason).strip()) < _SHORTEST_REASON:
                raise InvalidInput(f"the exemption of {key} has no reason that says something",
                                   hint="Write in a sentence why the plugin cannot keep the rule.")

    def reason(self, rule: str, host: str) -> str:
        """Why a rule may fail in a host; empty if it may not."""
        return self.reasons.get(f"{rule}/{host}") or self.reasons.get(rule, "")

    def check_hosts(self, names: Iterable[str]) -> None:
        """Refuse exemptions in hosts that nobody knows.

        Args:
            names: Of the hosts that there are.

        Raises:
            InvalidInput: An exemption names another one.
        """
        known = set(names)
        for key in self.reasons:
            host = key.partition("/")[2]
            if host and host not in known:
                raise InvalidInput(f"the exemption {key!r} names a host that does not exist",
                                   hint=f"Hosts are {', '.join(sorted(known))}.")

    def with_more(self, more: Mapping[str, str]) -> Exemptions:
        """These and others, which win."""
        return Exemptions({**self.reasons, **more})


def read_baseline(path: Path) -> Exemptions:
    """Read `conformance.toml`: a table `exempt` whose keys are rule ids and whose values are reasons.

    Raises:
        InvalidInput: It is not TOML of that form, a rule does not exist, or a reason says nothing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    table = document.get("exempt", {})
    unknown = set(document) - {"exempt"}
    if unknown or not isinstance(table, dict) or not all(isinstance(reason, str) for reason in table.values()):
        raise InvalidInput(f"{path} is not a baseline of exemptions",
                           hint='Write a table [exempt] with lines such as AG12 = "the back-end keeps no logs".')
    return Exemptions(table)


def find_baseline(start: Path) -> Path | None:
    """`conformance.toml` in a folder or the nearest one above it, no farther than a `pyproject.toml`."""
    for folder in (start, *start.parents):
        if (folder / BASELINE).is_file():
            return folder / BASELINE
        if (folder / "pyproject.toml").is_file():
            return None
    return None
