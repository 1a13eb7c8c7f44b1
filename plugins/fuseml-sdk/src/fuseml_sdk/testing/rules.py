"""Rules as data: what a plugin must do, why, and what to do about it when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fuseml_sdk.testing.bench import Bench

#: How much a plugin is worth of which all rules of a level, and of those below it, are kept.
Level = Literal["bronze", "silver", "gold"]
LEVELS: tuple[Level, ...] = ("bronze", "silver", "gold")
#: What a rule needs of a host: a process of its own that may be killed (`process`), a new start over the same state
#: (`restart`), the plugin's code in this Python environment (`python`).
Trait = Literal["process", "restart", "python"]
#: Page on which every rule has a heading of its own.
PAGE = "docs/reference/conformance-rules.md"


class Violation(AssertionError):
    """A rule is not kept.

    Args:
        seen: What was seen, in one sentence.
    """

    def __init__(self, seen: str) -> None:
        super().__init__(seen)
        self.seen = seen


class NotApplicable(Exception):
    """The rule has nothing to check: the plugin declares not to offer what it is about.

    Args:
        reason: What is missing, in one sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Condition:
    """Which plugins of a family a rule concerns.

    Attributes:
        whom: What tells them from the others, such as `offers store_search`.
        otherwise: Why the rule has nothing to check for others, in a sentence.
        holds: Whether it concerns a plugin.
    """

    whom: str
    otherwise: str
    holds: Callable[[Bench], bool]


@dataclass(frozen=True)
class Rule:
    """One rule of the kit.

    Attributes:
        id: Stable, such as `ST03`; never given to another rule.
        title: What holds, in one sentence.
        why: What goes wrong for users of a plugin that does not keep it.
        fix: What its author does about it.
        families: Whom it concerns: store, agent, builder; empty means every plugin.
        level: The lowest level that includes it.
        needs: What a host must be able to do for it.
        only: What must hold of a plugin of these families for the rule to concern it.
        check: Asks the plugin and compares. Raises `Violation` or `NotApplicable`.
    """

    id: str
    title: str
    why: str
    fix: str
    families: tuple[str, ...]
    level: Level
    needs: frozenset[Trait]
    only: tuple[Condition, ...]
    check: Callable[[Bench], None]

    def apply(self, bench: Bench) -> None:
        """Check it, if it concerns the plugin.

        Raises:
            NotApplicable: It does not.
            Violation: The plugin does not keep it.
        """
        for condition in self.only:
            if not condition.holds(bench):
                raise NotApplicable(condition.otherwise)
        self.check(bench)

    @property
    def link(self) -> str:
        """Where the documentation explains it."""
        return f"{PAGE}#{self.id.lower()}"

    @property
    def name(self) -> str:
        """Short name for test ids, such as `core01_describes_itself`."""
        return f"{self.id.lower()}_{self.check.__name__.lstrip('_')}"

    def concerns(self, families: Iterable[str]) -> bool:
        """Whether plugins of these families have to keep it."""
        return not self.families or bool(set(self.families) & set(families))

    def explain(self, host: str, seen: str) -> str:
        """What a failed test prints."""
        return (f"{self.id} {self.title}\n  host: {host}\n  seen: {seen}\n  why:  {self.why}\n  fix:  {self.fix}\n"
                f"  see:  {self.link}")


class Rulebook:
    """The rules of one module, in the order in which they are written.

    Args:
        families: Of all its rules; empty means every plugin.
        only: Conditions of all its rules.
    """

    def __init__(self, *families: str, only: Iterable[Condition] = ()) -> None:
        self._families = families
        self._only = tuple(only)
        self.rules: list[Rule] = []

    def rule(self, identifier: str, title: str, *, why: str, fix: str, level: Level = "bronze",
             needs: Iterable[Trait] = (), only: Iterable[Condition] = (),
             ) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
        """Make a rule of the check below it."""
        def add(check: Callable[[Bench], None]) -> Callable[[Bench], None]:
            self.rules.append(Rule(identifier, title, why, fix, self._families, level, frozenset(needs),
                                   (*self._only, *only), check))
            return check
        return add


def offers(hook: str) -> Condition:
    """That a plugin offers a hook which not every plugin of its family has to offer."""
    return Condition(f"offers {hook}", f"the plugin does not offer {hook}", lambda bench: hook in bench.hooks)


def all_rules() -> tuple[Rule, ...]:
    """Every rule, in the order in which they are checked and documented."""
    from fuseml_sdk.testing import (
        agent_rules,
        builder_rules,
        configuration_rules,
        core_rules,
        import_rules,
        life_rules,
        store_change_rules,
        store_rules,
        wire_rules,
        workload_rules,
    )

    modules = (core_rules, import_rules, configuration_rules, store_rules, store_change_rules, agent_rules,
               workload_rules, builder_rules, life_rules, wire_rules)
    return tuple(rule for module in modules for rule in module.BOOK.rules)
