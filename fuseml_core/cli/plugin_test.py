"""`fuseml plugin test|conform`: an author's own tests, and the rules of the kit by address."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item
from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_core.cli.plugin_project import PluginProject

_FILE = click.Path(dir_okay=False, path_type=Path)
#: Exit code when tests fail or a plugin does not conform.
FAILED = 1
#: pytest's exit code when there is no test.
_NO_TESTS = 5


def _not_run(plugin: dict[str, Any]) -> str:
    """Why a plugin has no level although nothing failed; a plugin's own kit may be older and not say it."""
    return f", {plugin['unchecked']} rules not checked" if plugin.get("unchecked") else ""


SUMMARY: list[Column] = [
    ("Level", "level"),
    ("Plugins", lambda card: [f"{each['plugin']}: {each['level']}, {each['passed']} passed, {each['failed']} failed, "
                              f"{each['exempt']} exempt{_not_run(each)}" for each in card["plugins"]]),
    ("Hosts", lambda card: ", ".join(dict.fromkeys(host for each in card["plugins"] for host in each["hosts"]))),
    ("Failed", lambda card: [check["name"] for check in card["checks"] if check["outcome"] in ("failed", "stale")]),
    ("Exempt", lambda card: [f"{check['id']}: {check['reason']}" for check in card["checks"]
                             if check["outcome"] == "exempt"]),
    ("Contract", "contract_digest"),
]


@click.command("test", context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--scorecard", type=_FILE, help="Where to write it; by default scorecard.json in FOLDER.")
@click.option("--junit", type=_FILE, help="Write JUnit XML to this file.")
@output_option
def test(folder: Path, arguments: Sequence[str], scorecard: Path | None, junit: Path | None, output: str) -> int:
    """Run the tests of the plugin in FOLDER, in an environment that holds what its bundle would hold.

    ARGUMENTS go to pytest: `fuseml plugin test . -- -k core01`. What conformance() saw is written to scorecard.json,
    which `bundle push` attaches to the bundle. Exit code 1 means that a test failed.
    """
    from fuseml_core.cli.plugin_project import open_project

    project = open_project(folder)
    python = project.environment(lambda line: echo(line, err=True))
    card, xml = (scorecard or project.folder / "scorecard.json").absolute(), junit.absolute() if junit else None
    card.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuseml-test-") as scratch:
        wheels = _wheels(project, Path(scratch))
        code = _pytest(python, project.folder, [
            f"--fuseml-scorecard={card}", *(f"--fuseml-wheel={wheel}" for wheel in wheels),
            *([f"--junitxml={xml}"] if xml else []), *arguments], quiet=output != "table")
    if code == _NO_TESTS:
        raise Invalid(f"{folder} has no tests.", hint="Write tests/test_conformance.py; see `fuseml plugin new`.")
    if card.exists():
        _report(card, output)
    return 0 if code == 0 else FAILED


@click.command("conform")
@click.option("--address", required=True, metavar="unix:PATH|http://HOST:PORT", help="Where the plugin listens.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File with the bearer token that the plugin wants.")
@click.option("--family", "families", multiple=True, type=click.Choice(["store", "agent", "builder"]),
              help="Only the rules of these families, and those for all. Repeatable; the plugin says by default.")
@click.option("--baseline", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="conformance.toml with the rules that may fail, and why.")
@click.option("--report", type=_FILE, help="Write the scorecard to this file.")
@click.option("--junit", type=_FILE, help="Write JUnit XML to this file.")
@output_option
def conform(address: str, token_file: Path | None, families: Sequence[str], baseline: Path | None,
            report: Path | None, junit: Path | None, output: str) -> int:
    """Check a plugin that runs at an address, in whatever language, against every rule that can be checked there.

    It makes things in the plugin, under the project `conformance`; do not point it at one that is in use. Exit code 1
    means that a rule is not kept.
    """
    with tempfile.TemporaryDirectory(prefix="fuseml-conform-") as scratch:
        card = report or Path(scratch) / "scorecard.json"
        options = ["--address", address, "--report", str(card)]
        for name, value in (("--token-file", token_file), ("--baseline", baseline), ("--junit", junit)):
            options += [name, str(value)] if value else []
        options += [word for family in families for word in ("--family", family)]
        done = subprocess.run([sys.executable, "-m", "fuseml_sdk.testing", *options], check=False,
                              stdout=None if output == "table" else subprocess.DEVNULL)
        if output != "table" and card.exists():
            show_data(_read(card), output)
    return done.returncode


def _pytest(python: Path, folder: Path, options: Sequence[str], *, quiet: bool) -> int:
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))}
    return subprocess.run([str(python), "-m", "pytest", "--rootdir", str(folder), *options], cwd=folder, check=False,
                          env=variables, stdout=sys.stderr if quiet else None).returncode


def _wheels(project: PluginProject, folder: Path) -> list[Path]:
    """The wheels that the bundle would carry; equal sources give equal bytes."""
    from fuseml_core.settings import from_environment
    from fuseml_oci.bundles import WheelCache
    from fuseml_oci.bundles.build import read_wheels

    cache = WheelCache(from_environment().path("cache", "wheels"))
    made = []
    for wheel in read_wheels(project.folder, project.manifest, cache.make):
        made.append(folder / wheel.filename)
        made[-1].write_bytes(wheel.data)
    return made


def _report(card: Path, output: str) -> None:
    document = _read(card)
    show_item({**document, "file": str(card)}, output, [*SUMMARY, ("Scorecard", "file")])


def _read(card: Path) -> dict[str, Any]:
    import json

    document: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
    return document
