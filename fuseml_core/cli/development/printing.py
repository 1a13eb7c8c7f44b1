"""How `plugin dev` shows what happens: its own words, the plugin's output, and each call with its time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import click

from fuseml_core.cli.render import echo
from fuseml_sdk.serve.tracing import MARK

_COLOURS = {"ok": "green", "internal": "red", "permanent": "red"}


class Printer:
    """Writes lines from several threads, one at a time.

    Args:
        several: Whether there are several components, so that each line says whose it is.
    """

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._lock = threading.Lock()

    def say(self, text: str, *, colour: str | None = None) -> None:
        """Something about the development itself."""
        self._line(time.time(), click.style(text, fg=colour, bold=True) if colour else text)

    def output_of(self, component: str) -> Callable[[str], None]:
        """What takes the lines that a component writes."""
        prefix = f"{component} " if self._several else ""

        def show(line: str) -> None:
            call = _call(line)
            if call is None:
                self._line(time.time(), f"{prefix}| {line}")
                return
            outcome = str(call["outcome"])
            text = (f"{prefix}{call['hook']:<22} {call['ms']:>9.1f} ms  "
                    f"{click.style(outcome, fg=_COLOURS.get(outcome, 'yellow'))}")
            self._line(float(call["at"]), f"{text}  {call['message']}" if call.get("message") else text)

        return show

    def _line(self, at: float, text: str) -> None:
        moment = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
        with self._lock:
            click.echo(f"{moment}  {text}") if "\x1b" in text else echo(f"{moment}  {text}")


def _call(line: str) -> dict[str, Any] | None:
    """A line of the trace; None if it is anything else."""
    if not line.startswith(MARK):
        return None
    try:
        found = json.loads(line[len(MARK):])
        return found if {"hook", "ms", "outcome", "at"} <= found.keys() else None
    except (ValueError, AttributeError):
        return None
