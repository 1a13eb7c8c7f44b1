"""Requirement lists as pip writes them, expanded and checked line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from fuseml_mlflow.sources import read_text
from fuseml_sdk.errors import InvalidInput

_FILE_OPTION = re.compile(r"^(?:-r|--requirement|-c|--constraint)(?:\s+|=)\s*(.+)$")
_INDEX_OPTION = re.compile(r"^(?:-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host|--pre|"
                           r"--prefer-binary|--no-binary|--only-binary|--require-hashes|--use-feature)\b")
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s+--hash[=\s]\S+")


@dataclass
class RequirementList:
    """What an environment file asks for.

    Attributes:
        requirements: PEP 508 lines, in the order of the files.
        constraints: PEP 508 lines of constraint files.
        warnings: What was left out, and why, for people.
    """

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def expand(lines: list[str], root: Path, source: str) -> RequirementList:
    """Expand `-r` and `-c` lines and check every requirement.

    Args:
        lines: As a requirements file or a `dependencies` list has them.
        root: Directory of the codeset; files outside it are refused.
        source: Name of the file the lines come from, for messages.

    Raises:
        InvalidInput: A line is no requirement, names a file that does not exist, or cannot be locked (a path, a URL).
    """
    result = RequirementList()
    _expand(lines, root, root, source, result, constraint=False, seen=())
    return result


def _expand(lines: list[str], directory: Path, root: Path, source: str, result: RequirementList, *,
            constraint: bool, seen: tuple[Path, ...]) -> None:
    for raw in _joined(lines):
        line = _HASH.sub("", _COMMENT.sub("", raw)).strip()
        if not line:
            continue
        included = _FILE_OPTION.match(line)
        if included:
            path = _inside(directory / included[1].strip(), root, source)
            if path in seen:
                raise InvalidInput(f"{source}: {line!r} includes itself")
            text = read_text(root, path.relative_to(root.resolve()).as_posix())
            _expand(text.splitlines(), path.parent, root, path.relative_to(root.resolve()).as_posix(), result,
                    constraint=constraint or line.startswith(("-c", "--c")), seen=(*seen, path))
        elif _INDEX_OPTION.match(line):
            result.warnings.append(f"{source}: {line.split()[0]} is ignored; the package index is a setting of FuseML")
        else:
            (result.constraints if constraint else result.requirements).append(_checked(line, source))


def _joined(lines: list[str]) -> list[str]:
    """Join lines that end with a backslash to the next."""
    joined: list[str] = []
    pending = ""
    for line in lines:
        pending += str(line)
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        joined.append(pending)
        pending = ""
    return [*joined, pending] if pending else joined


def _inside(path: Path, root: Path, source: str) -> Path:
    resolved, base = path.resolve(), root.resolve()
    if not resolved.is_relative_to(base):
        raise InvalidInput(f"{source}: {path.name!r} lies outside the codeset")
    if not resolved.is_file():
        raise InvalidInput(f"{source}: the file {resolved.relative_to(base).as_posix()!r} does not exist")
    return resolved


def _checked(line: str, source: str) -> str:
    hint = "Publish it as a package, or copy the code into the project."
    if line.startswith(("-e", "--editable", ".", "/")):
        raise InvalidInput(f"{source}: {line!r} is a path, which cannot be locked with hashes", hint=hint)
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        if "://" in line or line.startswith("git+"):
            raise InvalidInput(f"{source}: {line!r} is a URL, which cannot be locked with hashes", hint=hint) from None
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{source}: {line!r} is not a requirement: {reason}") from None
    if requirement.url:
        raise InvalidInput(f"{source}: {line!r} is a URL, which cannot be locked with hashes", hint=hint)
    return line
