"""Which user may do what in which repository: the union of all rules that apply."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fuseml_registry.configuration import ANONYMOUS, Access

#: Everything that can be done in a repository.
ACTIONS = frozenset({"pull", "push", "delete"})


class Permissions:
    """The rules of a registry.

    Args:
        rules: Of the configuration; without any, every user may do everything.
        anonymous_pull: Whether everybody may pull everything.
    """

    def __init__(self, rules: Iterable[Access], *, anonymous_pull: bool = False) -> None:
        self._rules = [(rule, [_glob(text) for text in rule.repositories]) for rule in rules]
        self._anonymous = frozenset({"pull"}) if anonymous_pull else frozenset()

    def actions(self, user: str, repository: str) -> frozenset[str]:
        """Return what a user may do in a repository; an empty `user` is anonymous."""
        granted = set(self._anonymous)
        if user and not self._rules:
            return ACTIONS
        for rule, globs in self._rules:
            if _applies(rule, user) and any(glob.fullmatch(repository) for glob in globs):
                granted.update(rule.actions)
        return frozenset(granted)

    def may_see_something(self, user: str) -> bool:
        """Whether a list of repositories could hold anything for a user."""
        return bool(user or self._anonymous or any(ANONYMOUS in rule.users for rule, _ in self._rules))


def _applies(rule: Access, user: str) -> bool:
    return ANONYMOUS in rule.users or bool(user and (user in rule.users or "*" in rule.users))


def _glob(text: str) -> re.Pattern[str]:
    """`**` is anything, `*` anything without a slash, `?` one character without it; `a/**` means `a` too."""
    if text.endswith("/**"):
        return re.compile(f"{_glob(text[:-3]).pattern}(?:/.*)?")
    parts = re.split(r"(\*\*|\*|\?)", text)
    meaning = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(part) or re.escape(part) for part in parts))
