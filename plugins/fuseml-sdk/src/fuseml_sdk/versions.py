"""Semantic versions and ranges of them, as extension manifests write them (https://semver.org).

A range is a list of comparisons joined by commas, such as `>=0.1,<1`; `*` or nothing accepts every version.
Operators: `==`, `!=`, `>=`, `>`, `<=`, `<`, `~=` (compatible: `~=1.4` is `>=1.4,<2`). A pre-release is judged by
the release it leads to, so `0.1.0-dev.4f2a…` satisfies `>=0.1` and `1.0.0-rc.1` does not satisfy `<1`; only a
comparison that names a pre-release itself compares pre-releases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from fuseml_sdk.errors import InvalidInput

_VERSION = re.compile(r"(0|[1-9]\d*)(?:\.(0|[1-9]\d*))?(?:\.(0|[1-9]\d*))?(?:-([0-9A-Za-z.-]+))?")
_COMPARISON = re.compile(r"(==|!=|>=|<=|~=|>|<)\s*(\S+)")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version; ordered by the rules of semver 2.0.0, section 11."""

    release: tuple[int, int, int]
    pre: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, self.release)) + (f"-{'.'.join(self.pre)}" if self.pre else "")

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    @property
    def is_development(self) -> bool:
        """Whether this is a development build, `X.Y.Z-dev.<digest>`."""
        return "dev" in self.pre

    def _key(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        pre = tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in self.pre)
        return self.release, not self.pre, pre


@dataclass(frozen=True, slots=True)
class Range:
    """Which versions are acceptable."""

    text: str
    comparisons: tuple[tuple[str, Version], ...]

    def __str__(self) -> str:
        return self.text or "*"

    def __contains__(self, version: Version) -> bool:
        return all(_holds(version, operator, bound) for operator, bound in self.comparisons)


def parse_version(text: str) -> Version:
    """Read a version; a missing minor or patch number counts as 0.

    Raises:
        InvalidInput: It is not a version.
    """
    match = _VERSION.fullmatch(text.strip())
    pre = tuple(match[4].split(".")) if match and match[4] else ()
    if match is None or not all(pre):
        raise InvalidInput(f"{text!r} is not a version", hint="Write it like 1.2.3 or 1.2.3-rc.1.")
    return Version((int(match[1]), int(match[2] or 0), int(match[3] or 0)), pre)


def parse_range(text: str) -> Range:
    """Read a range such as `>=0.1,<1`; a bare version means exactly this one.

    Raises:
        InvalidInput: A part of it is not a comparison; the message names the part.
    """
    stripped = text.strip()
    if stripped in ("", "*"):
        return Range("*", ())
    comparisons: list[tuple[str, Version]] = []
    for part in stripped.split(","):
        comparisons.extend(_comparison(part.strip(), stripped))
    return Range(stripped, tuple(comparisons))


def _comparison(part: str, whole: str) -> list[tuple[str, Version]]:
    match = _COMPARISON.fullmatch(part)
    operator, number = (match[1], match[2]) if match else ("==", part)
    try:
        bound = parse_version(number)
    except InvalidInput:
        raise InvalidInput(f"{part!r} in the range {whole!r} is not a comparison of versions",
                           hint="Write a range like `>=0.1,<1`.") from None
    if operator != "~=":
        return [(operator, bound)]
    if number.split("-", maxsplit=1)[0].count(".") < 2:
        return [(">=", bound), ("<", Version((bound.release[0] + 1, 0, 0)))]
    return [(">=", bound), ("<", Version((bound.release[0], bound.release[1] + 1, 0)))]


def _holds(version: Version, operator: str, bound: Version) -> bool:
    judged = version if bound.pre else Version(version.release)
    return {"==": judged == bound, "!=": judged != bound, ">=": judged >= bound, "<=": judged <= bound,
            ">": judged > bound, "<": judged < bound}[operator]
