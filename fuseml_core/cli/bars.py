"""Progress of transfers on stderr: a bar that is drawn over and over on a terminal, a line a second anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fuseml_oci.progress import Moved, Report

#: Characters of the bar itself.
WIDTH = 24
_START, _CLEAR = "\r", "\x1b[K"


@contextmanager
def transfer(verb: str) -> Iterator[Report]:
    """Show how a transfer goes on while the context lasts.

    Args:
        verb: What is done, such as `copying`.

    Yields:
        What to call with each moment of the transfer.
    """
    from fuseml_oci.progress import lines

    if not sys.stderr.isatty():
        yield lines(verb, lambda text: click.echo(text, err=True)) or _nobody
        return
    began, drawn = time.monotonic(), False

    def draw(moved: Moved) -> None:
        nonlocal drawn
        drawn = True
        text = bar_text(verb, moved, time.monotonic() - began)[:shutil.get_terminal_size().columns - 1]
        sys.stderr.write(f"{_START}{text}{_CLEAR}")
        sys.stderr.flush()

    try:
        yield draw
    finally:
        if drawn:
            click.echo(err=True)


def bar_text(verb: str, moved: Moved, seconds: float) -> str:
    """The line that a terminal shows, such as `copying [####    ] 1 of 3, 4.0 MiB of 8.0 MiB, 2.0 MiB/s`."""
    from fuseml_oci.progress import size_text

    share = moved.size / moved.of_size if moved.of_size else 1.0
    filled = round(WIDTH * min(1.0, max(0.0, share)))
    speed = f", {size_text(int(moved.size / seconds))}/s" if seconds >= 1 else ""
    return (f"{verb} [{'#' * filled}{' ' * (WIDTH - filled)}] {moved.blobs} of {moved.of_blobs}, "
            f"{size_text(moved.size)} of {size_text(moved.of_size)}{speed}")


def _nobody(_moved: Moved) -> None:
    """Nobody is told."""
