"""Printing logs, once or as they grow."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.domain.errors import Failed, NotFound

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

#: Seconds between two looks at a log that has not grown.
PAUSE = 0.5
#: Controls that could change anything on a terminal but the line being written; colours (SGR) and returns may stay.
_HARMFUL = re.compile(r"(\x1b\[[0-9;:]{0,64}m)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def shown(text: str) -> str:
    """A piece of a log as it is written to stdout: on a terminal, escape sequences other than colours lose their start.

    Programs and files get every byte.
    """
    if not sys.stdout.isatty():
        return text
    return _HARMFUL.sub(lambda found: found[1] or "\N{REPLACEMENT CHARACTER}", text)


def print_logs(client: Client, run: Mapping[str, Any], step: str | None, *, following: bool) -> None:
    """Print the log of one step of a run, or of all under a heading each.

    Args:
        client: For the server.
        run: The full record of the run.
        step: Name of the step; None: all.
        following: Go on until the steps have ended.

    Raises:
        NotFound: The run has no such step.
    """
    names = [entry["name"] for entry in run.get("steps") or []]
    if step is not None and step not in names:
        raise NotFound(f"Run {run['name']} has no step {step!r}.", hint=f"Its steps: {', '.join(names) or 'none'}")
    pipeline, _, number = str(run["name"]).rpartition("/")
    path = ("projects", str(run["project"]), "runs", pipeline, number, "logs")
    print_growing(client, path, {"step": step}, following=following)


def print_growing(client: Client, path: tuple[str, ...], query: Mapping[str, Any], *, following: bool) -> None:
    """Print a log page by page.

    Args:
        client: For the server.
        path: Segments of the log's path.
        query: Further query fields.
        following: Wait for more until the server says that it is complete.

    Raises:
        Failed: The log repeats itself.
    """
    cursor: Any = None
    wrote, known = False, set[tuple[Any, Any, int]]()
    while True:
        page = client.get(*path, query={**query, "cursor": cursor}, patience=60.0)
        text = page.get("text") or ""
        wrote = wrote or bool(text)
        if text:
            sys.stdout.write(shown(text))
            sys.stdout.flush()
        ended = bool(page.get("complete")) and not text
        if ended or (not text and not following) or page.get("cursor") in (None, ""):
            if not wrote:
                click.echo("Nothing has been written.", err=True)
            return
        cursor = page["cursor"]
        piece = (cursor, page.get("instance"), hash(text))
        if not text:
            time.sleep(PAUSE)
        elif piece in known:
            raise Failed("The log goes back to where it was: its agent repeats it without end.",
                         hint="What is above is all that it gives; tell the author of the agent.")
        known.add(piece)
