"""What linting found, after the exceptions of the bundle were applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from fuseml_oci.bundles.lint.rules import RULES, Finding, Severity, declare, finding
from fuseml_sdk.manifest import LintException

STALE = declare(
    "B901", "exception-is-needed", Severity.WARNING,
    title="Every accepted finding in extension.toml is still found.",
    reason="An exception that is not needed any more hides the next finding of its rule.",
    fix="Delete the [[lint]] entry.")
FORBIDDEN = declare(
    "B902", "exception-is-possible", Severity.ERROR,
    title="Exceptions name rules that exist and that are no errors.",
    reason="Errors keep a bundle from working or from being safe; no reason changes that.",
    fix="Correct the rule id, or what the rule found.")


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, errors first; accepted ones are among them, with the reason."""

    findings: Sequence[Finding]

    def counted(self, severity: Severity) -> int:
        """How many findings of a severity are not accepted."""
        return sum(found.rule.severity == severity and not found.accepted for found in self.findings)

    def passes(self, *, strict: bool = False) -> bool:
        """Whether the bundle is good enough: no errors; with `strict` no warnings either."""
        return not self.counted(Severity.ERROR) and not (strict and self.counted(Severity.WARNING))

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "errors": self.counted(Severity.ERROR), "warnings": self.counted(Severity.WARNING),
            "notices": self.counted(Severity.NOTICE),
            "findings": [{"rule": f.rule.id, "name": f.rule.name, "severity": str(f.rule.severity), "where": f.where,
                          "message": f.message, "reason": f.rule.reason, "fix": f.fix, "accepted": f.accepted}
                         for f in self.findings],
        }


def report_of(findings: Iterable[Finding], exceptions: Sequence[LintException], *, complete: bool = True) -> Report:
    """Apply exceptions; those that match nothing are findings themselves.

    Args:
        findings: As the rules gave them.
        exceptions: Of extension.toml.
        complete: Every rule was run; otherwise nothing can be said about exceptions without a finding.
    """
    used: set[int] = set()
    results = []
    for found in findings:
        number = next((n for n, each in enumerate(exceptions) if _matches(each, found)), None)
        if number is not None:
            used.add(number)
        results.append(found if number is None else replace(found, accepted=exceptions[number].reason))
    for number, each in enumerate(exceptions):
        place = f"extension.toml: lint.{number}"
        known = RULES.get(each.rule)
        if known is None or known.severity is Severity.ERROR:
            results.append(finding(FORBIDDEN, place, f"{each.rule} is {'no rule' if known is None else 'an error'}"))
        elif complete and number not in used:
            results.append(finding(STALE, place, f"{each.rule} does not find anything {each.where or 'here'}"))
    order = list(Severity)
    return Report(tuple(sorted(results, key=lambda f: (bool(f.accepted), order.index(f.rule.severity), f.rule.id))))


def _matches(exception: LintException, found: Finding) -> bool:
    return (exception.rule == found.rule.id and found.rule.severity is not Severity.ERROR
            and (not exception.where or fnmatchcase(found.where, exception.where)))
