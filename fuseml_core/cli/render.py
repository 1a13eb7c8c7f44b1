"""Output of commands: plain aligned tables for people, JSON and YAML in the API's full form for programs."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
#: A cell of a table: one line, or several under each other.
Cell = str | Sequence[str]
#: A column: its header, and a dotted path into the item or a function from the item to the cell.
Column = tuple[str, "str | Callable[[Any], Any]"]

#: Spaces between columns.
GAP = 3
#: No column is folded narrower than this many characters.
NARROWEST = 12
#: Control characters would let a name or a log line write anything to the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def output_option(command: Command) -> Command:
    """Decorator: give a command the option `--output/-o table|json|yaml` as its argument `output`."""
    return click.option("--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table",
                        show_default=True, help="How to print.")(command)


def show_list(items: Sequence[Mapping[str, Any]], output: str, columns: Sequence[Column], *, empty: str = "") -> None:
    """Print a list of things of the API.

    Args:
        items: As the API gave them.
        output: `table`, `json` or `yaml`.
        columns: What the table shows.
        empty: What to say on stderr instead of an empty table.
    """
    if output != "table":
        show_data(list(items), output)
    elif items:
        echo(table([header for header, _ in columns], [[cell(item, of) for _, of in columns] for item in items]))
    elif empty:
        click.echo(empty, err=True)


def show_item(item: Mapping[str, Any], output: str, columns: Sequence[Column]) -> None:
    """Print one thing of the API: all its fields as data, or a line for each column that is not empty."""
    if output != "table":
        show_data(item, output)
        return
    pairs = [(header, cell(item, of)) for header, of in columns]
    echo(fields([(header, value) for header, value in pairs if value not in ("-", "", [])]))


def show_data(data: Any, output: str) -> None:
    """Print data as JSON or YAML."""
    if output == "yaml":
        import yaml

        echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=10_000).rstrip("\n"), raw=True)
    else:
        import json

        echo(json.dumps(data, indent=2, ensure_ascii=False), raw=True)


def echo(text: str, *, raw: bool = False, err: bool = False) -> None:
    """Write a line or more; control characters are made harmless unless `raw`."""
    click.echo(text if raw else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text), err=err)


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, width: int | None = None) -> str:
    """An aligned table: the headers, dashes under each, then the rows; cells may have several lines.

    Args:
        headers: One for each column.
        rows: Cells, each a line or several lines.
        width: Characters to fit into by folding the widest columns; by default the terminal's if stdout is one,
            otherwise unlimited, so that programs see whole values.
    """
    body = [[_lines(value) for value in row] for row in rows]
    limits = _widths(headers, body, _terminal_width() if width is None else width)
    lines = [_line(headers, limits), _line(["-" * _display(header) for header in headers], limits)]
    for row in body:
        folded = [_fold(value, limit) for value, limit in zip(row, limits, strict=True)]
        height = max(len(value) for value in folded)
        lines += [_line([value[n] if n < len(value) else "" for value in folded], limits) for n in range(height)]
    return "\n".join(lines)


def fields(pairs: Sequence[tuple[str, Cell]]) -> str:
    """Names and values in two columns."""
    wide = max((_display(name) for name, _ in pairs), default=0) + 1
    lines: list[str] = []
    for name, value in pairs:
        first, *rest = _lines(value) or [""]
        lines += [f"{_pad(name + ':', wide)}  {first}".rstrip(), *(f"{' ' * wide}  {more}".rstrip() for more in rest)]
    return "\n".join(lines)


def cell(item: Mapping[str, Any], of: str | Callable[[Any], Any]) -> Cell:
    """The cell of a column for an item; nothing is shown as `-`."""
    value: Any = item
    if callable(of):
        value = of(item)
    else:
        for key in of.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return outline(value) if isinstance(value, Mapping | list | tuple) else str(value)


def outline(value: Mapping[str, Any] | Sequence[Any]) -> list[str]:
    """Lines that show nested data as YAML does: an entry each, what belongs to it indented below."""
    named = isinstance(value, Mapping)
    lines: list[str] = []
    for head, entry in value.items() if isinstance(value, Mapping) else (("", each) for each in value):
        start = f"{head}: " if named else ""
        if isinstance(entry, list | tuple) and all(_is_plain(each) for each in entry):
            lines.append(start + (", ".join(map(_scalar, entry)) or "-"))
        elif isinstance(entry, Mapping | list | tuple) and entry:
            below = outline(entry)
            lines += [start.rstrip(), *(f"  {line}" for line in below)] if named else [
                f"- {below[0]}", *(f"  {line}" for line in below[1:])]
        else:
            first, *more = _scalar(entry).split("\n")
            lines += [start + first, *(f"  {line}" for line in more)]
    return lines


def _is_plain(value: Any) -> bool:
    return not isinstance(value, Mapping | list | tuple) and "\n" not in str(value)


def _scalar(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _lines(value: Cell) -> list[str]:
    return value.split("\n") if isinstance(value, str) else [str(line) for line in value]


def _display(text: str) -> int:
    """Columns of the terminal that a text takes: wide characters count twice, combining ones not at all."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * max(0, width - _display(text))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(_pad(text, width) for text, width in zip(cells, widths, strict=True)).rstrip()


def _widths(headers: Sequence[str], body: Sequence[Sequence[Sequence[str]]], limit: int) -> list[int]:
    """Width of each column; the widest ones give way until the table fits, none below `NARROWEST`."""
    widths = [max(_display(header), *(_display(line) for row in body for line in row[n]), 0)
              for n, header in enumerate(headers)]
    while sum(widths) + GAP * (len(widths) - 1) > limit and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _fold(lines: Sequence[str], width: int) -> list[str]:
    """Lines cut into pieces of at most `width` columns: after a space or slash where one is in the second half."""
    folded: list[str] = []
    for line in lines:
        piece = ""
        for char in line:
            if _display(piece + char) > width and piece:
                cut = max(piece.rfind(" "), piece.rfind("/")) + 1
                cut = cut if 2 * cut > len(piece) else len(piece)
                folded.append(piece[:cut].rstrip())
                piece = piece[cut:]
            piece += char
        folded.append(piece)
    return folded


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 30
