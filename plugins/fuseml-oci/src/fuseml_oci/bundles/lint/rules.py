"""Rules of `bundle lint`: each with an id that stays, a severity, the reason and the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuseml_oci.bundles.lint.subject import Subject


class Severity(StrEnum):
    """What a finding means for the bundle."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is checked and why.

    Attributes:
        id: `B` and three digits; never used for anything else again.
        name: Short, for people.
        severity: Errors keep a bundle from being built; warnings fail with `--strict`; notices never fail.
        title: What holds when there is no finding.
        reason: Why anybody cares.
        fix: What to do; a finding may know better.
    """

    id: str
    name: str
    severity: Severity
    title: str
    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule found.

    Attributes:
        rule: Which one.
        where: File and line or field, as far as known.
        message: What is there.
        fix: What to do.
        accepted: The reason for which the bundle accepts it; empty: it does not.
    """

    rule: Rule
    where: str
    message: str
    fix: str
    accepted: str = ""


#: Place and message; a third text takes the place of the rule's fix.
Found = Iterator[tuple[str, str] | tuple[str, str, str]]
Check = Callable[["Subject"], Found]
#: Every rule by id, and the checks of those that look at a whole bundle.
RULES: dict[str, Rule] = {}
CHECKS: dict[str, Check] = {}


def declare(id_: str, name: str, severity: Severity, *, title: str, reason: str, fix: str) -> Rule:
    """Make a rule known."""
    assert id_ not in RULES, f"{id_} is used twice"
    RULES[id_] = Rule(id_, name, severity, title, reason, fix)
    return RULES[id_]


def rule(id_: str, severity: Severity, *, reason: str, fix: str) -> Callable[[Check], Check]:
    """Decorator: the function is the check of a rule; its name is the rule's and its docstring the title."""
    def register(check: Check) -> Check:
        title = " ".join((check.__doc__ or "").split())
        declare(id_, check.__name__.replace("_", "-"), severity, title=title, reason=reason, fix=fix)
        CHECKS[id_] = check
        return check

    return register


def finding(found: Rule, where: str, message: str, fix: str = "") -> Finding:
    """A finding of a rule."""
    return Finding(found, where, message, fix or found.fix)


def run(subject: Subject, only: Iterable[str] | None = None) -> Iterator[Finding]:
    """Run the checks in the order of their ids, all or those named."""
    for id_ in sorted(CHECKS if only is None else set(only) & CHECKS.keys()):
        for where, message, *fix in CHECKS[id_](subject):
            yield finding(RULES[id_], where, message, *fix)
