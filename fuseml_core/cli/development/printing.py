"""How `plugin dev` shows what happens: its own words, the plugin's output, and each call with its time.

A call is shown when it ends, and while it runs if that takes long.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import click

from fuseml_core.cli.development.in_flight import InFlight
from fuseml_core.cli.render import echo
from fuseml_sdk.serve.tracing import BEGUN, MARK

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
        self.line(time.time(), click.style(text, fg=colour, bold=True) if colour else text)

    def output_of(self, component: str) -> Output:
        """What takes the lines that a new process of a component writes."""
        return Output(self, f"{component} " if self._several else "")

    def line(self, at: float, text: str) -> None:
        """A line with its time, in seconds since the epoch."""
        moment = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at * 1000) % 1000:03d}"
        with self._lock:
            click.echo(f"{moment}  {text}") if "\x1b" in text else echo(f"{moment}  {text}")


class Output:
    """What one process of a component writes.

    Args:
        printer: Shows it.
        prefix: Says whose it is.
    """

    def __init__(self, printer: Printer, prefix: str) -> None:
        self._printer, self._prefix = printer, prefix
        self._in_flight = InFlight(self._goes_on)

    def line(self, line: str) -> None:
        """Show a line; those of the trace are calls."""
        if begun := _document(line, BEGUN, {"number", "hook", "wait"}):
            self._in_flight.begin(int(begun["number"]), str(begun["hook"]), float(begun["wait"]))
        elif call := _document(line, MARK, {"hook", "ms", "outcome", "at"}):
            self._in_flight.end(int(call.get("number", 0)))
            outcome, at = str(call["outcome"]), float(call["at"]) + float(call["ms"]) / 1000
            text = f"{call['ms']:>9.1f} ms  {click.style(outcome, fg=_COLOURS.get(outcome, 'yellow'))}"
            self._call(at, call["hook"], f"{text}  {call['message']}" if call.get("message") else text)
        else:
            self._printer.line(time.time(), f"{self._prefix}| {line}")

    def ended(self) -> None:
        """The process is gone, and with it what it was doing."""
        for hook, seconds in self._in_flight.abandon():
            self._call(time.time(), hook, f"{seconds:>9.1f} s   {click.style('ended with its process', fg='yellow')}")

    def _goes_on(self, hook: str, seconds: float) -> None:
        self._call(time.time(), hook, f"{seconds:>9.1f} s   {click.style('still running', fg='yellow')}")

    def _call(self, at: float, hook: str, text: str) -> None:
        self._printer.line(at, f"{self._prefix}{hook:<22} {text}")


def _document(line: str, mark: str, members: set[str]) -> dict[str, Any]:
    """The JSON object after a mark; empty if the line is anything else."""
    if not line.startswith(mark):
        return {}
    try:
        found = json.loads(line[len(mark):])
        return found if members <= found.keys() else {}
    except (ValueError, AttributeError):
        return {}
