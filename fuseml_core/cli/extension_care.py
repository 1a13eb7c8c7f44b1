"""`fuseml extension diff|verify|doctor|gc`: look after what is installed."""

from __future__ import annotations

import re
from typing import Any

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_list

#: Seconds that may pass between two lines of progress.
_PATIENCE = 3600.0
#: Exit code when something was found to be wrong.
FOUND = 1
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}

_CHANGES: list[Column] = [("Part", "part"), ("Name", "name"), ("Change", "change"), ("Before", "before"),
                          ("After", "after")]
_FINDINGS: list[Column] = [("Extension", "extension"), ("Part", "part"), ("Problem", "problem"),
                           ("Subject", "subject"), ("Detail", "detail")]
_CHECKS: list[Column] = [("Check", "id"), ("State", "state"), ("Reason", "reason"), ("Fix", "fix")]
_LEFTOVERS: list[Column] = [("Kind", "kind"), ("Name", "name"), ("Size", lambda item: size(item["bytes"])),
                            ("Age", lambda item: age(item["age"])), ("Why", "why"),
                            ("Removed", lambda item: item["removed"])]


class Age(click.ParamType[float]):
    """A length of time such as `7d`, `12h`, `30m` or `0s`; a number alone means seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        match = _AGE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a length of time; write it like 7d, 12h or 30m", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


@click.command("diff")
@click.argument("before")
@click.argument("after", required=False, default="")
@click.option("--channel", default="", metavar="NAME", help="Channel of the marketplaces' catalogs.")
@click.option("--offline", is_flag=True, help="Ask nothing but the server's own registry.")
@click.option("--exit-code", is_flag=True, help="End with exit code 1 if something differs.")
@output_option
def diff(before: str, after: str, channel: str, offline: bool, exit_code: bool, output: str) -> int:
    """Show what differs between two versions of an extension, or between two generations.

    \b
    fuseml extension diff mlflow               what is installed and the best version available
    fuseml extension diff mlflow 0.2.0         what is installed and this version
    fuseml extension diff mlflow:0.1.0 mlflow:0.2.0
    fuseml extension diff 3 5                  two generations; one alone: it and the one in force
    """  # noqa: D301  click reads the character \b
    found = connect().get("extension-difference", query={"before": before, "after": after, "channel": channel,
                                                         "offline": offline}, timeout=120.0)
    if output != "table":
        show_data(found, output)
    else:
        show_list(found["changes"], output, _CHANGES,
                  empty=f"{_side(found['before'])} and {_side(found['after'])} do not differ.")
    return FOUND if exit_code and found["changes"] else 0


@click.command("verify")
@click.argument("names", nargs=-1)
@click.option("--repair", is_flag=True, help="Fetch, unpack and build again what is wrong.")
@click.option("--offline", is_flag=True, help="Ask no other registry than the server's own.")
@output_option
def verify(names: tuple[str, ...], repair: bool, offline: bool, output: str) -> int:
    """Check that extensions are what was installed: files, environments, signatures, components.

    All of them when no NAMES are given. Ends with exit code 1 if something is wrong.
    """
    body = {"names": list(names), "repair": repair, "offline": offline}
    done = follow("extension-verification", body=body, quiet=output != "table")
    findings = [finding for entry in done["extensions"] for finding in entry["findings"]]
    if output != "table":
        show_data(done, output)
        return FOUND if findings else 0
    for entry in done["extensions"]:
        mended = f", repaired: {', '.join(entry['repaired'])}" if entry["repaired"] else ""
        echo(f"{entry['extension']} {entry['version']}: {entry['files']} files, {entry['environment_files']} files of "
             f"its environment: {_verdict(len(entry['findings']))}{mended}")
    if findings:
        echo("")
        show_list(findings, output, _FINDINGS)
        if any(finding["repairable"] for finding in findings) and not repair:
            echo("\nMend it with: fuseml extension verify --repair", err=True)
    return FOUND if findings else 0


@click.command("doctor")
@click.argument("checks", nargs=-1)
@click.option("--fix", is_flag=True, help="Do what cannot do harm.")
@output_option
def doctor(checks: tuple[str, ...], fix: bool, output: str) -> int:
    """Check this machine, the server and what is installed; say what is wrong, why and what to do.

    All checks when no CHECKS are given. Ends with exit code 1 if one of them ends with an error.
    """
    done = connect().post("extension-examination", body={"only": list(checks), "fix": fix}, timeout=600.0,
                          repeatable=not fix)
    if output != "table":
        show_data(done, output)
    else:
        show_list(done["checks"], output, _CHECKS)
    return 0 if done["ok"] else FOUND


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and change nothing.")
@click.option("--keep", type=click.IntRange(1, 1000), metavar="N", help="Generations to keep, the one in force "
              "included; by default as the server is set.")
@click.option("--older-than", type=Age(), default="7d", show_default=True, metavar="AGE",
              help="Only what was not used for so long: 7d, 12h, 30m.")
@click.option("--only", multiple=True, metavar="KIND", help="Only this kind of things, such as workload. Repeatable.")
@output_option
def gc(dry_run: bool, keep: int | None, older_than: float, only: tuple[str, ...], output: str) -> int:
    """Remove what nothing needs any more; what runs is never touched.

    \b
    generation   sets of extensions beyond those that are kept
    bundle       unpacked versions that no generation and no pipeline needs
    environment  Python environments of nothing that exists
    workload     folders of runs that ended: logs and scratch files
    runnable     copies of runnables that are registered no more
    content      contents of models and datasets of deleted projects
    layer, wheel, transfer   downloads
    scratch      temporary files of extensions that are not installed
    state        only with --only state: what such extensions kept
    """  # noqa: D301  click reads the character \b
    body = {"dry_run": dry_run, "older_than": older_than, "only": list(only), "keep": keep}
    done = follow("extension-collection", body=body, quiet=output != "table")
    if output != "table":
        show_data(done, output)
        return FOUND if done["errors"] else 0
    show_list(done["leftovers"], output, _LEFTOVERS, empty="Nothing is left over.")
    if done["leftovers"]:
        what = f"{size(done['bytes'])} can be freed." if dry_run else f"{size(done['freed'])} are free now."
        echo(f"\n{len(done['leftovers'])} things, {what}", err=True)
    for error in done["errors"]:
        echo(f"Not done: {error}", err=True)
    return FOUND if done["errors"] else 0


def follow(*segments: str, body: Any, quiet: bool = False) -> dict[str, Any]:
    """Do long work at the server, showing what it says; returns its result.

    Args:
        segments: Path below `/api/v1`.
        body: The request.
        quiet: Show no progress.

    Raises:
        Unavailable: The server ended without a result.
    """
    result: dict[str, Any] | None = None
    for event in connect().stream(*segments, body=body, timeout=_PATIENCE):
        if event.get("event") == "progress" and not quiet:
            echo(str(event.get("text", "")), err=True)
        elif event.get("event") == "result":
            result = event["result"]
    if result is None:
        from fuseml_core.domain.errors import Unavailable

        raise Unavailable("The server ended without a result.", hint="See: fuseml server logs")
    return result


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def age(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _side(side: dict[str, Any]) -> str:
    return f"Generation {side['generation']}" if "generation" in side else f"{side['name']} {side['version']}"


def _verdict(count: int) -> str:
    return "nothing is wrong" if not count else f"{count} thing{'s are' if count > 1 else ' is'} wrong"
