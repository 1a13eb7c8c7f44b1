"""Addresses of single artifacts and selectors over many.

Grammar (docs/reference/addresses.md)::

    ref      = kind "://" [project "/"] name [version]
    version  = "/" shorthex | "@" algo ":" hex | ":" alias | "@v" N
    selector = kind "://" pattern ["?" predicates] ["#" globs]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import unquote

from fuseml_core.domain.errors import Invalid
from fuseml_core.domain.names import HEX_LIKE, check_name

#: Scheme in addresses for each artifact kind whose scheme differs from its name.
SCHEME_OF_KIND = {"codeset": "code"}
KIND_OF_SCHEME = {scheme: kind for kind, scheme in SCHEME_OF_KIND.items()}

_SCHEME = re.compile(r"^[a-z][a-z0-9+-]*\Z")
_DIGEST = re.compile(r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|git:[0-9a-f]{40}|git:[0-9a-f]{64}|"
                     r"ext:[0-9a-f]{64})\Z")
_ALIAS = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_PREDICATE = re.compile(r"^([A-Za-z][\w.-]*)(!=|=)(.*)$")


@dataclass(frozen=True, slots=True)
class Address:
    """One artifact, or one version of it.

    Attributes:
        kind: Artifact kind, such as `codeset`.
        project: Empty when the address leaves it to the current project.
        name: Empty in `model://myproj/4c88e8f252be`, where the version alone identifies.
        digest: Full identity such as `git:<40 hex>`, or empty.
        short: Leading hex digits of the identity, or empty.
        alias: Movable name such as a branch, or empty.
        number: n-th version of the name, or 0.
    """

    kind: str
    project: str = ""
    name: str = ""
    digest: str = ""
    short: str = ""
    alias: str = ""
    number: int = 0

    def __str__(self) -> str:
        base = f"{scheme_of(self.kind)}://" + "/".join(p for p in (self.project, self.name) if p)
        if self.digest:
            return f"{base}@{self.digest}"
        if self.short:
            return f"{base}/{self.short}"
        if self.alias:
            return f"{base}:{self.alias}"
        return f"{base}@v{self.number}" if self.number else base


def scheme_of(kind: str) -> str:
    """The scheme that stands for an artifact kind in addresses."""
    return SCHEME_OF_KIND.get(kind, kind)


def kind_of(scheme: str) -> str:
    """The artifact kind that a scheme stands for."""
    return KIND_OF_SCHEME.get(scheme, scheme)


def short_form(kind: str, project: str, name: str, digest: str) -> str:
    """The form that tables print: `code://myproj/myapp/f3b0924`, `model://myproj/4c88e8f252be`."""
    hexdigits = digest.partition(":")[2]
    if kind == "codeset":
        return f"code://{project}/{name}/{hexdigits[:7]}"
    if kind == "runnable":
        return f"runnable://{project}/{name}/{hexdigits[:12]}"
    return f"{scheme_of(kind)}://{project}/{hexdigits[:12]}"


def parse_address(text: str, default_project: str = "") -> Address:
    """Read the address of one artifact.

    Args:
        text: Such as `code://myproj/myapp/f3b0924`.
        default_project: Project of an address that has only a name.

    Raises:
        Invalid: It is not an address; the message points at the part that is wrong.
    """
    scheme, rest = _split_scheme(text)
    if any(c in rest for c in "*?[#"):
        raise Invalid(f"{text!r} selects many artifacts; an address of one is needed here")
    rest, fields = _split_version(text, rest)
    parts = rest.split("/")
    if not fields and len(parts) > 1 and HEX_LIKE.match(parts[-1]):
        fields = {"short": parts.pop()}
    if any(not p for p in parts):
        raise Invalid(f"{text!r} has an empty part", hint=f"Write {scheme}://<project>/<name>.")
    kind = kind_of(scheme)
    if len(parts) == 1 and fields.get("short") and "/" in text.split("://", 1)[1]:
        return Address(kind, project=check_name(parts[0], "project"), short=str(fields["short"]))
    project, names = (parts[0], parts[1:]) if len(parts) > 1 else (default_project, parts)
    if project:
        check_name(project, "project")
    for part in names:
        check_name(part, kind)
    return Address(kind, project, "/".join(names), **fields)  # type: ignore[arg-type]


def _split_scheme(text: str) -> tuple[str, str]:
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME.match(scheme) or not rest:
        raise Invalid(f"{text!r} is not an address", hint="Write for example code://myproj/myapp or model://*.")
    return scheme, rest


def _split_version(text: str, rest: str) -> tuple[str, dict[str, object]]:
    if "@" in rest:
        base, _, version = rest.partition("@")
        if re.fullmatch(r"v[1-9][0-9]{0,8}", version):
            return base, {"number": int(version[1:])}
        if not _DIGEST.match(version):
            raise Invalid(f"{text!r}: {version!r} is not a version",
                          hint="After @ comes v<number>, git:<40 hex> or sha256:<64 hex>.")
        return base, {"digest": version}
    if ":" in rest:
        base, _, alias = rest.rpartition(":")
        if not _ALIAS.match(alias):
            raise Invalid(f"{text!r}: {alias!r} is not an alias")
        return base, {"alias": alias}
    return rest, {}


@dataclass(frozen=True, slots=True)
class Selector:
    """A pattern over artifacts of one kind.

    Attributes:
        kind: Artifact kind.
        project: Project whose artifacts are meant; a glob is allowed.
        name: Glob over names.
        alias: Only versions that carry this alias, or empty.
        predicates: (key, operator, value); keys are `type`, `branch` and `label.<name>`.
        globs: Change filter: only these files matter; empty means all.
    """

    kind: str
    project: str
    name: str
    alias: str = ""
    predicates: tuple[tuple[str, str, str], ...] = field(default=())
    globs: tuple[str, ...] = field(default=())

    def covers(self, kind: str, project: str, name: str) -> bool:
        """Whether an artifact of this kind, project and name is selected, versions aside."""
        return kind == self.kind and _segments_match(project, self.project) and _segments_match(name, self.name)

    @property
    def is_wild(self) -> bool:
        """Whether more than one name can match."""
        return is_pattern(self.project + self.name)


def is_pattern(text: str) -> bool:
    """Whether a text has wildcards."""
    return any(c in text for c in "*?[")


@lru_cache(maxsize=4096)
def parse_selector(text: str, default_project: str) -> Selector:
    """Read a selector such as `code://*`, `model://myproj/churn:prod` or `code://*?branch=dev#train.py,src/**`.

    Raises:
        Invalid: It is not a selector; the message says which part is wrong.
    """
    scheme, rest = _split_scheme(text)
    rest, _, fragment = rest.partition("#")
    rest, query = _split_query(rest)
    alias = ""
    if ":" in rest:
        rest, _, alias = rest.rpartition(":")
        if not _ALIAS.match(alias):
            raise Invalid(f"{text!r}: {alias!r} is not an alias")
    if "@" in rest:
        raise Invalid(f"{text!r} names one version; a selector follows a name", hint="Leave the version out.")
    parts = rest.split("/")
    if any(not p for p in parts):
        raise Invalid(f"{text!r} has an empty part", hint=f"Write {scheme}://* or {scheme}://<project>/<name>.")
    project, names = (parts[0], parts[1:]) if len(parts) > 1 else (default_project, parts)
    for part in (project, *names):
        if not is_pattern(part):
            check_name(part, "name in an address")
    globs = tuple(unquote(g) for g in fragment.split(",") if g)
    return Selector(kind_of(scheme), project, "/".join(names), alias, _predicates(text, query), globs)


def _split_query(rest: str) -> tuple[str, str]:
    # `?` is also a wildcard for one character; it starts predicates only when `key=value` follows.
    head, separator, tail = rest.rpartition("?")
    if separator and "=" in tail:
        return head, tail
    return rest, ""


def _predicates(text: str, query: str) -> tuple[tuple[str, str, str], ...]:
    found = []
    for part in filter(None, query.split("&")):
        match = _PREDICATE.match(part)
        if not match or not (match[1] in ("type", "branch") or match[1].startswith("label.")):
            raise Invalid(f"{text!r}: {part!r} is not a predicate",
                          hint="Known are type=…, branch=… and label.<name>=…, also with !=.")
        found.append((match[1], match[2], unquote(match[3])))
    return tuple(found)


def _segments_match(value: str, pattern: str) -> bool:
    if pattern in ("*", "**") and "/" not in value:
        return True
    if "**" in pattern:
        return fnmatchcase(value, pattern)
    values, patterns = value.split("/"), pattern.split("/")
    return len(values) == len(patterns) and all(fnmatchcase(v, p) for v, p in zip(values, patterns, strict=True))
