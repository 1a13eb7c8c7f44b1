"""The policy file: ordered rules that say whose bundles may be installed. The first rule that matches decides.

version = 1

[[rule]]
match = "ghcr.io/our-team/**"
keys = ["keys/team.pub", "keys/release.pub"]
threshold = 2
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_oci.trust.scope import matches

#: What a rule may say about the bundles it matches.
REJECT, ALLOW, KEYS, MARKETPLACE = "reject", "allow", "keys", "marketplace"

#: Written by :func:`default_policy`.
_DEFAULT = """\
# Whose extensions this server installs. The first rule that matches decides; what no rule matches is refused.
#
#   match         registry and repository, with * and **; "embedded" is this server's own registry
#   keys          public keys, relative to this file, or "marketplace": keys that a subscribed catalog endorses
#   threshold     how many of the keys must have signed (default 1)
#   attestations  predicate types that one of the keys must have signed as well
#   action        instead of keys: "reject" or "allow"
#   reason        shown to whoever is refused
#
# Try it: fuseml policy check REFERENCE
version = 1

[[rule]]
match = "embedded/**"
keys = ["keys/registry.pub"]

[[rule]]
match = "**"
keys = "marketplace"
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        match: Glob over `host/repository`.
        action: `reject`, `allow`, `keys` or `marketplace`.
        keys: Files of public keys, absolute; for `keys` only.
        threshold: How many different keys must have signed.
        attestations: Predicate types of which a signed attestation is needed.
        reason: Why the rule is there, in its author's words.
        number: Place in the file, from 1.
        line: Line where it begins; 0 if that is not known.
    """

    match: str
    action: str
    keys: tuple[Path, ...] = ()
    threshold: int = 1
    attestations: tuple[str, ...] = ()
    reason: str = ""
    number: int = 1
    line: int = 0

    @property
    def name(self) -> str:
        """How messages call it."""
        where = f", line {self.line}" if self.line else ""
        return f'rule {self.number} ("{self.match}"{where})'

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"number": self.number, "line": self.line, "match": self.match, "action": self.action,
                "keys": [str(key) for key in self.keys], "threshold": self.threshold,
                "attestations": list(self.attestations), "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, in order, and the file they are from."""

    rules: tuple[Rule, ...]
    path: Path

    def rule_for(self, subject: str) -> Rule | None:
        """The first rule that matches what :func:`~fuseml_oci.trust.scope.subject_of` returns."""
        return next((rule for rule in self.rules if matches(rule.match, subject)), None)


def default_policy() -> str:
    """The policy of a new server: its own registry's key, then keys that subscribed marketplaces endorse."""
    return _DEFAULT
