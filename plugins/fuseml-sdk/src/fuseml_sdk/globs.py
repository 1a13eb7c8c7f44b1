"""Matching of paths against change filters: one place, so that triggers, builders and stores agree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path inside an artifact is selected by a list of globs.

    Case does not matter. `*` and `?` stay inside one directory, `**` crosses directories, `[…]` is a set of
    characters. A pattern is anchored at the root, so a bare name such as `conda.yaml` means the root only;
    a pattern that names a directory selects everything below it. Patterns that start with `!` exclude; the last
    pattern that matches decides. An empty list selects everything, and so does a list of exclusions only, except
    for what they exclude.

    Args:
        path: POSIX path relative to the artifact's root.
        patterns: Globs.
    """
    selected = all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        exclude = pattern.startswith("!")
        if _compiled(pattern[1:] if exclude else pattern).fullmatch(path):
            selected = not exclude
    return selected


def select(paths: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The paths that `patterns` select, sorted."""
    return sorted(path for path in paths if matches(path, patterns))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.strip("/").split("/") if part not in ("", ".")]
    expression = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            expression += ".*" if last else "(?:[^/]+/)*"
        else:
            expression += _segment(part) + ("(?:/.*)?" if last else "/")
    return re.compile(expression, re.IGNORECASE | re.DOTALL)


def _segment(part: str) -> str:
    """The regular expression of one path segment."""
    result, position = "", 0
    while position < len(part):
        char = part[position]
        end = part.find("]", position + 2) if char == "[" else -1
        if char == "*":
            result += "[^/]*"
        elif char == "?":
            result += "[^/]"
        elif end > 0:
            inside = part[position + 1:end].replace("\\", r"\\").replace("[", r"\[")
            result += f"[^{inside[1:]}/]" if inside[0] in "!^" else f"[{inside}]"
            position = end
        else:
            result += re.escape(char)
        position += 1
    return result
