"""Rules about Python sources: they are read, never executed."""

from __future__ import annotations

import ast
import difflib
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from fuseml_oci.bundles.build import MANIFEST_FILE
from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.subject import SEEN, Subject, WheelFacts
from fuseml_sdk.types import EnvironmentSpec, RunnableDescriptor

_IN_COMMAND = re.compile(r"\{runnable\}/([^\s\"'{}]+\.py)")
#: Bytes of source that are read of one wheel.
_MOST = 16 << 20
#: What the parser raises at text that is no Python.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@rule("B211", Severity.ERROR, reason="The command fails the first time that anybody runs it.",
      fix="Correct the line; `python -m py_compile FILE` says the same.")
def programs_of_commands_are_python(bundle: Subject) -> Found:
    """Every Python file that a command starts can be read as Python."""
    seen = set()
    for runnable in bundle.runnables.values():
        if not all(_is_for_this_python(environment) for environment in _environments(runnable)):
            continue
        for path in (path for argument in runnable.command for path in _IN_COMMAND.findall(argument)):
            if path not in seen and (wrong := _mistake(bundle.files.get(path, b""))):
                yield f"{path}:{wrong[0]}", wrong[1]
            seen.add(path)


@rule("B310", Severity.ERROR, reason="A plugin that cannot be imported fails when the extension is installed.",
      fix="Correct the line, and try it with `fuseml plugin dev` or `fuseml plugin test`.")
def plugins_are_python(bundle: Subject) -> Found:
    """Every Python file in the wheels of plugins can be read as Python."""
    if not _is_accepted(bundle):
        return
    for wheel in _plugin_wheels(bundle):
        room = _MOST
        for name, text in wheel.texts.items():
            room -= len(text)
            if name.endswith(".py") and room >= 0 and (wrong := _mistake(text)):
                yield f"{_shown(bundle, wheel, name)}:{wrong[0]}", wrong[1]


@rule("B311", Severity.ERROR, reason="The server looks for exactly this name when it starts the plugin.",
      fix="Correct `plugin` in extension.toml; it is MODULE:NAME.")
def plugins_are_defined(bundle: Subject) -> Found:
    """The module of every plugin defines the name that extension.toml gives."""
    for component in bundle.manifest.components:
        module, _, attribute = component.plugin.partition(":")
        path, first = module.replace(".", "/"), attribute.partition(".")[0]
        for wheel in _plugin_wheels(bundle):
            file = next((name for name in (f"{path}.py", f"{path}/__init__.py") if name in wheel.texts), None)
            names = _names(wheel.texts[file]) if file else None
            if file is None or names is None or first in names:
                continue
            near = difflib.get_close_matches(first, names, 1)
            yield (f"{MANIFEST_FILE}: components: {component.name}: plugin",
                   f"{_shown(bundle, wheel, file)} defines no {first!r}",
                   f'Write plugin = "{module}:{near[0]}".' if near else
                   f"Define {first} in {_shown(bundle, wheel, file)}, or correct `plugin` in {MANIFEST_FILE}.")


def _plugin_wheels(bundle: Subject) -> Iterator[WheelFacts]:
    """The wheels in which modules of plugins lie."""
    modules = [component.plugin.partition(":")[0].replace(".", "/") for component in bundle.manifest.components
               if component.plugin]
    for wheel in bundle.wheels:
        if any({f"{module}.py", f"{module}/__init__.py"} & wheel.names for module in modules):
            yield wheel


def _is_accepted(bundle: Subject) -> bool:
    """Whether the extension may run on this Python; the syntax of a later one would be taken for a mistake."""
    environment, running = bundle.manifest.environment, ".".join(map(str, sys.version_info[:3]))
    try:
        return environment is None or SpecifierSet(environment.python).contains(running)
    except InvalidSpecifier:
        return False


def _environments(runnable: RunnableDescriptor) -> list[EnvironmentSpec]:
    return [runnable.environment, *runnable.environments.values()]


def _is_for_this_python(environment: EnvironmentSpec) -> bool:
    return not environment.image and environment.python in (None, f"{sys.version_info[0]}.{sys.version_info[1]}")


def _parsed(text: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _mistake(text: bytes) -> tuple[int, str] | None:
    """Line and reason of what keeps a text from being Python; None if nothing does, or if it was not read whole."""
    if len(text) >= SEEN:
        return None
    try:
        _parsed(text)
    except SyntaxError as error:
        return error.lineno or 1, f"{type(error).__name__}: {error.msg}"
    except _UNREADABLE as error:
        return 1, f"{type(error).__name__}: {error}"
    return None


def _names(text: bytes) -> set[str] | None:
    """The names that a module binds; None where that cannot be seen without running it."""
    try:
        tree = _parsed(text)
    except _UNREADABLE:
        return None  # another rule says so
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue  # what is bound inside is not bound in the module
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Store) else {f"{node.id}()"}
        waiting += ast.iter_child_nodes(node)
    # A star, a module's __getattr__ or a write to globals() may bind anything.
    return None if found & {"*", "__getattr__", "globals()", "vars()", "exec()", "setattr()"} else {
        name for name in found if not name.endswith("()")}


def _shown(bundle: Subject, wheel: WheelFacts, name: str) -> str:
    """Where a file of a wheel lies in the source, if that is at hand."""
    if bundle.source is not None:
        for project in _projects(bundle.source):
            for path in (project / "src" / name, project / name):
                if path.is_file():
                    return path.relative_to(bundle.source).as_posix()
    return f"{wheel.filename}: {name}"


def _projects(source: Path) -> Iterator[Path]:
    """The folders that wheels are built from; a built manifest names wheels only."""
    try:
        written = tomllib.loads((source / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    environment = written.get("environment") or {}
    yield from (source / str(path) for path in environment.get("wheels") or [] if not str(path).endswith(".whl"))
