"""What the hookspecs say of each hook, as data: for the reference, for `fuseml plugin contract show` and for tests.

The docstring of a hook is its documentation. It has a summary, maybe more text, and the sections `Args`, `Returns`,
`Raises` and `Example`; the example is a session of the interactive interpreter that a test runs.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from fuseml_sdk.contract import Operation, operations
from fuseml_sdk.deprecations import Notice
from fuseml_sdk.hookspecs import FAMILIES

_SECTION = re.compile(r"^(Args|Returns|Raises|Example):$")
_ENTRY = re.compile(r"^(\w+): (.*)$")


@dataclass(frozen=True, slots=True)
class HookText:
    """The documentation of one hook.

    Attributes:
        operation: The hook as data.
        summary: Its first sentence or two.
        text: Further paragraphs.
        arguments: Meaning of each argument.
        returns: Meaning of the result; empty for hooks that return nothing.
        raises: Name of the error class and when it is raised.
        example: Lines of an interactive session.
        notices: What of the hook is deprecated.
    """

    operation: Operation
    summary: str
    text: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)
    example: str = ""
    notices: tuple[Notice, ...] = ()

    @property
    def code(self) -> str:
        """The example as a program, with what the interpreter answers as comments."""
        lines: list[str] = []
        for line in self.example.splitlines():
            if line.startswith(">>> "):
                lines += [""] * bool(lines and lines[-1].startswith(" ")) + [line[4:]]
            elif line.startswith("..."):
                lines.append(line[4:])
            else:
                lines.append(f"# {line}")
        return "\n".join(lines)

    @property
    def signature(self) -> str:
        """The hook as it is defined in a plugin, with types."""
        made = [f"{p.name}: {code_name(p.annotation)}" + ("" if p.required else f" = {p.default!r}")
                for p in self.operation.parameters]
        result = "None" if self.operation.returns_nothing else code_name(self.operation.result)
        return f"{self.operation.hook}({', '.join(made)}) -> {result}"


def hook_texts() -> dict[str, HookText]:
    """The documentation of every hook, in the order of the hookspecs."""
    return {name: _text_of(operation) for name, operation in operations().items()}


def code_name(annotation: Any) -> str:
    """A type as it is written in code, such as `list[WorkloadStatus]`."""
    if annotation is type(None):
        return "None"
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(annotation))


def type_name(annotation: Any) -> str:
    """A type in words, such as `list of WorkloadStatus`; members of an enumeration as code."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments if a is not type(None))
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"map of {type_name(arguments[1])}"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    names = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def types_used() -> dict[str, Any]:
    """Every model that arguments and results are made of, by name, those of arguments and results themselves first."""
    found: dict[str, Any] = {}
    waiting = [annotation for each in operations().values()
               for annotation in (*(p.annotation for p in each.parameters), each.result)]
    while waiting:
        annotation = waiting.pop(0)
        waiting.extend(typing.get_args(annotation))
        if hasattr(annotation, "model_fields") and annotation.__name__ not in found:
            found[annotation.__name__] = annotation
            waiting.extend(each.annotation for each in annotation.model_fields.values())
    return found


def _text_of(operation: Operation) -> HookText:
    function = vars(FAMILIES[operation.family])[operation.hook]
    sections = _sections(inspect.cleandoc(function.__doc__ or ""))
    summary, _, text = sections[""].partition("\n\n")
    return HookText(operation, _flowing(summary), text.strip(), _entries(sections["Args"]),
                    _flowing(sections["Returns"]), _entries(sections["Raises"]), sections["Example"],
                    _notices(function))


def _sections(text: str) -> dict[str, str]:
    found: dict[str, list[str]] = {"": [], "Args": [], "Returns": [], "Raises": [], "Example": []}
    current = ""
    for line in text.splitlines():
        match = _SECTION.match(line)
        if match:
            current = match[1]
        else:
            found[current].append(line.removeprefix("    ") if current else line)
    return {name: "\n".join(lines).strip("\n") for name, lines in found.items()}


def _entries(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = _ENTRY.match(line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _flowing(text: str) -> str:
    return " ".join(text.split())


def _notices(function: Any) -> tuple[Notice, ...]:
    options = getattr(function, "fuseml_spec", None) or {}
    warnings = [options.get("warn_on_impl"), *(options.get("warn_on_impl_args") or {}).values()]
    return tuple(warning.notice for warning in warnings if hasattr(warning, "notice"))
