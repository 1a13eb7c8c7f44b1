"""Size of modules and functions, annotations and docstrings: numbers measured on projects we admire."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

# Medians of projects we admire: tox 91, starlette 145.
MODULE_MEDIAN, MODULE_P90, MODULE_MAX = 120, 300, 450
FUNCTION_MEDIAN, FUNCTION_P90, FUNCTION_MAX = 8, 25, 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _length(function: Function) -> int:
    """Lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _p90(values: list[int]) -> int:
    return sorted(values)[int(len(values) * 0.9)]


def test_modules_are_small(modules):
    """Median, 90th percentile and maximum of lines in a module; empty modules do not count."""
    lines = [module.lines for module in modules if module.lines > 3]
    too_long = {module.name: module.lines for module in modules if module.lines > MODULE_MAX}

    assert too_long == {}
    assert statistics.median(lines) <= MODULE_MEDIAN
    assert _p90(lines) <= MODULE_P90


def test_functions_are_small(modules):
    """Median, 90th percentile and maximum of lines in a function's body."""
    lengths = {
        f"{module.name}.{function.name}:{function.lineno}": _length(function)
        for module in modules
        if ".migrations.versions." not in module.name  # a migration is a list of tables, never edited again
        for function in _functions(module.tree)
    }
    too_long = {name: length for name, length in lengths.items() if length > FUNCTION_MAX}

    assert too_long == {}
    assert statistics.median(lengths.values()) <= FUNCTION_MEDIAN
    assert _p90(list(lengths.values())) <= FUNCTION_P90


def test_every_function_is_annotated(modules):
    """Arguments and results; `self` and `cls` have no type to tell."""
    bare = {
        f"{module.name}.{function.name}:{function.lineno}"
        for module in modules
        for function in _functions(module.tree)
        if (function.returns is None)
        or any(
            argument.annotation is None and argument.arg not in ("self", "cls", "mcs")
            for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        )
    }
    assert bare == set()


def _undocumented(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield prefix
    for node in tree.body:
        if not isinstance(node, (*Function.__args__, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node, f"{prefix}.{node.name}")
        elif not ast.get_docstring(node):
            yield f"{prefix}.{node.name}"


def test_public_names_are_documented(modules):
    """The published language, the ports and use cases, and the API say what each public name is for."""
    public = ("fuseml_sdk", "fuseml_core.service", "fuseml_core.api", "fuseml_core.domain", "fuseml_core.host")
    missing = [
        name
        for module in modules
        if module.name.startswith(public)
        for name in _undocumented(module.tree, module.name)
    ]
    assert missing == []


def test_nothing_is_left_to_do(modules):
    """What is missing is an issue, not a comment."""
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    assert {module.name for module in modules if any(f"# {mark}" in module.text for mark in marks)} == set()
