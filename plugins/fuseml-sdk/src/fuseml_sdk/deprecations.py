"""What of the contract goes away, since when, until when, and what to use instead; one place for all of it.

Something is deprecated by writing a notice where it is declared::

    @hookspec(firstresult=True, warn_on_impl=CONTRACT.hook(
        "store_ui_url", since="0.3", announced="2027-01-15", removed_in="0.5", instead="`StoreDescription.pages`"))
    def store_ui_url(self, ref: ArtifactRef) -> str: ...

Until the version `removed_in`, plugins that use it are warned when they are loaded. When the SDK has reached that
version the notice itself is an error (:class:`RemovalDue`), so that no release can forget to remove what it announced.
What was removed is kept in a list with :meth:`Deprecations.removed`, and who still uses it is told what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pluggy

from fuseml_sdk import __version__
from fuseml_sdk.versions import parse_version

#: Days between the announcement of a deprecation and the release that removes it, at least.
NOTICE_DAYS = 180


class DeprecatedInContract(FutureWarning):
    """A plugin uses what a later version of the contract does not have. Shown by default, as authors must see it.

    Attributes:
        notice: What it is about.
    """

    def __init__(self, notice: Notice) -> None:
        super().__init__(notice.text)
        self.notice = notice


class RemovalDue(Exception):
    """The SDK has reached the version in which something deprecated is removed, but it is still there."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One deprecation.

    Attributes:
        what: What goes away, such as ``hook `store_ui_url` ``.
        since: Version of the SDK that deprecated it.
        announced: Day of that release.
        removed_in: Version of the SDK that does not have it any more.
        instead: What to use; empty if there is nothing to use.
    """

    what: str
    since: str
    announced: date
    removed_in: str
    instead: str = ""

    @property
    def keep_until(self) -> date:
        """The first day on which it may be removed."""
        return self.announced + timedelta(days=NOTICE_DAYS)

    @property
    def text(self) -> str:
        """Since when, until when, and what to do, in one line."""
        return (f"{self.what} is deprecated since {self.since} ({self.announced}) and is removed in {self.removed_in}, "
                f"not before {self.keep_until}" + (f"; use {self.instead} instead" if self.instead else ""))

    @property
    def obituary(self) -> str:
        """What to tell those who still use it after its removal."""
        return (f"{self.what} was deprecated in {self.since} ({self.announced}) and was removed in {self.removed_in}"
                + (f"; use {self.instead} instead" if self.instead else ""))

    def as_dict(self) -> dict[str, str]:
        """As data for the wire: `what`, `since`, `announced`, `removed_in`, `keep_until`, `instead`, `text`."""
        return {"what": self.what, "since": self.since, "announced": str(self.announced),
                "removed_in": self.removed_in, "keep_until": str(self.keep_until), "instead": self.instead,
                "text": self.text}


@dataclass
class Deprecations:
    """Keeps the notices of one product at one version.

    Args:
        version: Version of the product; notices are due when it reaches their `removed_in`.

    Attributes:
        notices: What is deprecated now, in the order of declaration.
        gone: What was removed, by hook and argument (empty: the whole hook), for the explanation to those who still
            implement it.
    """

    version: str
    notices: list[Notice] = field(default_factory=list)
    gone: dict[tuple[str, str], Notice] = field(default_factory=dict)

    def notice(self, what: str, *, since: str, announced: str, removed_in: str, instead: str = "") -> Notice:
        """Declare a deprecation.

        Args:
            what: What goes away, such as ``the option `--tree` of `fuseml bundle show` ``.
            since: Version that deprecates it.
            announced: Day of that version, as `YYYY-MM-DD`.
            removed_in: Version that removes it.
            instead: What to use.

        Returns:
            The notice; its `text` is the warning for commands (`click.option(deprecated=…)`) and functions.

        Raises:
            RemovalDue: This version has reached `removed_in`.
            ValueError: It would be removed in the version that deprecates it.
        """
        made = Notice(what, since, date.fromisoformat(announced), removed_in, instead)
        if parse_version(removed_in) <= parse_version(since):
            raise ValueError(f"{what} would be removed in {removed_in}, but is deprecated only since {since}")
        if parse_version(self.version) >= parse_version(removed_in):
            raise RemovalDue(f"{what} is to be removed in {removed_in}, and this is {self.version}: remove it and its "
                             f"notice, and keep it in `removed` (see docs/reference/compatibility.md)")
        self.notices.append(made)
        return made

    def hook(self, name: str, **terms: str) -> DeprecatedInContract:
        """For `@hookspec(warn_on_impl=…)`: the hook goes away. Terms and errors are those of :meth:`notice`."""
        return DeprecatedInContract(self.notice(f"the hook `{name}`", **terms))

    def argument(self, hook: str, name: str, **terms: str) -> Mapping[str, DeprecatedInContract]:
        """For `@hookspec(warn_on_impl_args=…)`: an argument goes away; several are joined with `|`."""
        return {name: DeprecatedInContract(self.notice(f"the argument `{name}` of `{hook}`", **terms))}

    def field(self, model: str, name: str, **terms: str) -> str:
        """For `Field(deprecated=…)`: a field of a type goes away; who reads it is warned."""
        return self.notice(f"the field `{model}.{name}`", **terms).text

    def removed(self, hook: str, argument: str = "", *, since: str, announced: str, removed_in: str,
                instead: str = "") -> None:
        """Remember a hook or argument that is gone, so that a plugin that still has it is told what to do."""
        what = f"the argument `{argument}` of `{hook}`" if argument else f"the hook `{hook}`"
        self.gone[hook, argument] = Notice(what, since, date.fromisoformat(announced), removed_in, instead)

    def too_early(self, today: date) -> list[Notice]:
        """Removals that this version has made before the day that was promised."""
        return [notice for notice in self.gone.values()
                if parse_version(notice.removed_in) == parse_version(self.version) and today < notice.keep_until]


#: Deprecations of the plugin contract; contract 1 has none yet.
CONTRACT = Deprecations(__version__)


def used_by(manager: pluggy.PluginManager, plugin: object) -> list[Notice]:
    """What a registered plugin uses that is deprecated: hooks that it implements and arguments that they take.

    Read from the specifications instead of caught as warnings, because catching those is not safe with threads.
    """
    found: list[Notice] = []
    for caller in sorted(manager.get_hookcallers(plugin) or [], key=lambda each: each.name):
        if caller.spec is None:
            continue
        taken = [name for hook in caller.get_hookimpls() if hook.plugin is plugin
                 for name in (*hook.argnames, *hook.kwargnames)]
        warnings: list[Any] = [caller.spec.warn_on_impl]
        warnings += [(caller.spec.warn_on_impl_args or {}).get(name) for name in taken]
        found += [each.notice for each in warnings if isinstance(each, DeprecatedInContract)]
    return found


__all__ = ["CONTRACT", "NOTICE_DAYS", "DeprecatedInContract", "Deprecations", "Notice", "RemovalDue", "used_by"]
