"""What of a plugin does not fit the contract, said so that its author finds it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pluggy


def misfits(plugin: object, manager: pluggy.PluginManager) -> list[str]:
    """Hooks of a plugin that do not exist, and arguments that they do not have, each with its place in the source.

    Args:
        plugin: The object whose methods are marked with `@hookimpl`.
        manager: Knows every hookspec.
    """
    known = {name: caller.spec.argnames for name, caller in vars(manager.hook).items() if caller.spec}
    found = []
    for hook, function in _marked(plugin, manager):
        text = _surplus(hook, function, known[hook]) if hook in known else _unknown(hook, known)
        if text:
            found.append(f"{text} ({where})" if (where := place(function)) else text)
    return found


def place(function: Callable[..., Any]) -> str:
    """Where a function begins, such as `shelf/__init__.py, line 40`; empty if that is not known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{short(code.co_filename)}, line {code.co_firstlineno}" if code else ""


def short(file: str) -> str:
    """The end of a path, which is enough to know a module by."""
    return "/".join(Path(file).parts[-2:])


def _marked(plugin: object, manager: pluggy.PluginManager) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is not None and not options.get("optionalhook"):
            yield options.get("specname") or name, getattr(plugin, name)


def _unknown(hook: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(hook, list(known), 1)
    return f"there is no hook {hook}" + (f"; {near[0]} is meant, perhaps" if near else "")


def _surplus(hook: str, function: Callable[..., Any], arguments: tuple[str, ...]) -> str:
    ordinary = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    surplus = [each.name for each in inspect.signature(function).parameters.values()
               if each.kind in ordinary and each.default is each.empty and each.name not in arguments]
    if not surplus:
        return ""
    return f"{hook} has no argument {', '.join(surplus)}, but {', '.join(arguments) or 'none at all'}"
