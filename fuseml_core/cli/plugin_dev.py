"""`fuseml plugin dev`: write a plugin while it runs."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


@click.command("dev")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Settings and secrets of the plugin, as TOML or JSON.")
@click.option("--trace", metavar="GLOB", default="*", show_default=True,
              help="Hooks whose calls are shown with their time, such as store_*; an empty text shows none.")
@click.option("--server/--no-server", default=True, show_default=True,
              help="Let the local server use the plugin while it runs here.")
def dev(folder: Path, config: Path | None, trace: str, server: bool) -> None:
    """Run the plugin of FOLDER from its source, and start it again whenever a file changes.

    It is served on a Unix socket of its own, and the local server uses it like one that is installed until this
    command ends. What it writes, every call of a hook and every error are shown here. What it keeps lies in
    FOLDER/.dev, with a link to the socket. It runs with your rights, not confined as installed plugins are.
    """
    from fuseml_core.cli.development.printing import Printer
    from fuseml_core.cli.development.session import Session
    from fuseml_core.cli.plugin_project import open_project

    project = open_project(folder)
    printer = Printer(several=len(project.components) > 1)
    with contextlib.suppress(KeyboardInterrupt), _stopped_by_signals():
        Session(project, config, trace, printer).run(server)
    printer.say("stopped")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as Ctrl-C does: in order, with everything it started."""
    def stop(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
