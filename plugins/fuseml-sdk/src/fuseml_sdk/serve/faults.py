"""What a plugin did not mean to raise: the stack for its log, and for the caller a sentence with the place."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import TracebackType

import pluggy

import fuseml_sdk
from fuseml_sdk import misfits, problems
from fuseml_sdk.errors import Internal, PluginError

#: Folders of the code that leads to a plugin; its authors look for nothing there.
_OURS = tuple(str(Path(module.__file__ or "").parent) for module in (fuseml_sdk, pluggy, importlib))


def classified(error: Exception) -> PluginError:
    """The error as the caller hears it. The stack of a defect goes to the log, from the plugin's code on."""
    if isinstance(error, PluginError):
        return error
    whole = None if isinstance(error, (ImportError, SyntaxError)) else error.__traceback__
    traceback.print_exception(type(error), error, _own(error.__traceback__) or whole, file=sys.stderr)
    return problems.unexpected(error)


def at_start(error: Exception) -> PluginError:
    """The same for what keeps a plugin from starting, with a hint where it is and what to do."""
    found = classified(error)
    return Internal(found.message, hint=_hint(error), details=found.details) if found is not error else found


def _hint(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (f"{_where(error)}Add the package that has it to `dependencies` in pyproject.toml and to the lock, "
                "or correct the name.")
    if isinstance(error, SyntaxError) and error.filename:
        return f"It is in {misfits.short(error.filename)}, line {error.lineno}."
    return f"{_where(error)}The log has the stack."


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(_own(error.__traceback__))
    own = [frame for frame in frames if not _installed(frame.filename)] or frames
    return f"It was raised in {misfits.short(own[-1].filename)}, line {own[-1].lineno}. " if own else ""


def _installed(file: str) -> bool:
    """Whether a file belongs to the standard library or is no file; the last place of the plugin says more."""
    return file.startswith(("<", str(Path(importlib.__file__ or "").parents[1]) + "/")) and "site-packages" not in file


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The stack without what lies before the plugin's code; None if the plugin's code has not run at all."""
    before = (*_OURS, "<frozen importlib")
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(before):
        trace = trace.tb_next
    return trace
