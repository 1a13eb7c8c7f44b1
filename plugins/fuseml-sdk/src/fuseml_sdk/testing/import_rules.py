"""CORE11 to CORE15: what importing a plugin does, and does not."""

from __future__ import annotations

from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect
from fuseml_sdk.testing.probe import Import, observe
from fuseml_sdk.testing.processes import clean_environment
from fuseml_sdk.testing.rules import NotApplicable, Rulebook

BOOK = Rulebook()
#: Seconds of processor time.
MAX_SECONDS = 1.0


@BOOK.rule("CORE11", "It is imported in under a second of processor time.", level="silver", needs=["python"],
           why="A plugin starts at its first call, while somebody waits; servers start it again after every crash.",
           fix="Import large libraries inside the functions that use them.")
def _imports_fast(bench: Bench) -> None:
    # The faster of two: the first may compile what is not compiled yet, or hit a busy machine.
    seconds = _observed(bench).seconds
    if seconds > MAX_SECONDS:
        seconds = min(seconds, _observe(bench).seconds)
    expect(seconds <= MAX_SECONDS, f"importing took {seconds:.2f} s of processor time")


@BOOK.rule("CORE12", "Importing it opens no network connection.", needs=["python"],
           why="An import must work where there is no network, and must not wait for it.",
           fix="Connect in fuseml_configure, or at the first call that needs it.")
def _imports_without_network(bench: Bench) -> None:
    _nothing(bench, "network")


@BOOK.rule("CORE13", "Importing it starts no process and no thread.", needs=["python"],
           why="Tools import plugins to look at them; what an import starts nobody ends.",
           fix="Start threads and processes in fuseml_configure, and end them in fuseml_shutdown.")
def _imports_without_starting(bench: Bench) -> None:
    _nothing(bench, "process")
    _nothing(bench, "thread")


@BOOK.rule("CORE14", "Importing it writes no file.", needs=["python"],
           why="Before fuseml_configure the plugin does not know where it may write.",
           fix="Write below state_dir, from fuseml_configure on.")
def _imports_without_writing(bench: Bench) -> None:
    _nothing(bench, "write")


@BOOK.rule("CORE15", "Importing it prints nothing.", level="silver", needs=["python"],
           why="What it prints is in the way of everybody who imports it, in logs and on terminals.",
           fix="Use logging, and only when there is something to tell.")
def _imports_in_silence(bench: Bench) -> None:
    printed = _observed(bench).printed
    expect(not printed, f"it wrote {brief(printed)}")


def _nothing(bench: Bench, kind: str) -> None:
    done = _observed(bench).of(kind)
    expect(not done, f"importing did: {'; '.join(done[:3])}")


def _observed(bench: Bench) -> Import:
    found = bench.once("import", lambda: _observe(bench))
    if found.failure:
        raise NotApplicable(f"it cannot be imported: {found.failure}")
    return found


def _observe(bench: Bench) -> Import:
    return observe(bench.address, clean_environment(bench.folder()))
