"""Reading the files of a codeset, which anybody may have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fuseml_sdk.errors import InvalidInput

#: Bytes that a project or environment file may have; those of real projects have some thousands.
MAX_BYTES = 1024 * 1024
#: Values that a YAML file may have once its aliases are followed: a few lines of them can mean billions.
MAX_VALUES = 100_000


def read_text(root: Path, file: str) -> str:
    """Read a file of a codeset; bytes that are not UTF-8 are replaced.

    Args:
        root: Directory of the codeset.
        file: Path in it.

    Raises:
        InvalidInput: It leads out of the codeset by a link, is no ordinary file, or is too large.
    """
    path = (root / file).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InvalidInput(f"{file}: it is a link that leads out of the codeset", hint="Put the file itself there.")
    if not path.is_file():
        raise InvalidInput(f"{file}: it is not a file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InvalidInput(f"{file}: it has {size} bytes, at most {MAX_BYTES} are read")
    return path.read_text("utf-8-sig", errors="replace")


def load_yaml(text: str, file: str) -> Any:
    """Read YAML that is neither too deep nor, with its aliases followed, too large.

    Raises:
        InvalidInput: It is, or it is not YAML (with line and column).
    """
    try:
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput(f"{file}: not valid YAML{place}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidInput(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InvalidInput(f"{file}: its lists or mappings lie too deep in each other") from None
    except ValueError as error:  # such as the date 2026-99-99
        raise InvalidInput(f"{file}: it has a value that YAML does not have: {error}") from None
    _check_size(data, file)
    return data


def _check_size(data: Any, file: str) -> None:
    waiting, seen = [data], 0
    while waiting:
        value = waiting.pop()
        items: list[Any] = []
        if isinstance(value, dict):
            items = [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)):
            items = list(value)
        seen += len(items)
        if seen > MAX_VALUES:
            raise InvalidInput(f"{file}: its aliases stand for more than {MAX_VALUES} values",
                               hint="Write the values out, without anchors (&) and aliases (*).")
        waiting += items
