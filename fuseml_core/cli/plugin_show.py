"""`fuseml plugin list|info|logs|trace|stats|restart`: plugins as they run on the server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.cells import moment, size
from fuseml_core.cli.context import connect
from fuseml_core.cli.extension_plan import enforcement
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

#: Seconds between two looks at calls when none came, and for a plugin to start anew.
_PAUSE, _PATIENCE = 0.5, 600.0


def _extension(item: dict[str, Any]) -> str:
    return " ".join(str(item[key]) for key in ("extension", "version") if item.get(key)) or "built in"


def _state(item: dict[str, Any]) -> str:
    return str(item["state"]) if item.get("in_force", True) else f"{item['state']}, not in force"


COLUMNS: list[Column] = [
    ("Name", "name"), ("Family", "family"), ("Extension", _extension), ("Hosting", "hosting"),
    ("State", _state), ("PID", "pid"), ("Calls", "calls"), ("Kinds", lambda item: ", ".join(item.get("kinds") or [])),
    ("Restarts", "restarts"), ("Last crash", lambda item: first_line(item.get("last_crash"))),
]


def _permissions(item: dict[str, Any]) -> list[str]:
    return [f"{p['name']} ({enforcement(p)}): {p['reason']}" for p in item.get("permissions") or []]


def _contract(item: dict[str, Any]) -> list[str]:
    contract = item.get("contract")
    if not contract:
        return []
    theirs = contract["theirs"]
    sdk = f"fuseml-sdk {theirs['sdk_version']}" if theirs["sdk_version"] else "no SDK"
    lines = [f"{contract['state']}, protocol {contract['protocol']}, {sdk}, digest {theirs['digest'] or 'unknown'}"]
    return lines + [text for text in (contract["reason"], contract["fix"], *contract["deprecations"]) if text]


def _crashes(item: dict[str, Any]) -> list[str]:
    lines = []
    for crash in item.get("crashes") or []:
        during = f" in {crash['hook']}" if crash.get("hook") else ""
        version = f" {crash['version']}" if crash.get("version") else ""
        after = f" after {crash['ran_for']:.1f} s" if crash["ran_for"] else ""
        why = f": {crash['detail']}" if crash.get("detail") else ""
        lines.append(f"{moment(crash['at'])}{version} {crash['cause']}{during}{after}{why}")
        lines += [f"  {line}" for line in crash.get("output") or []][-5:]
    return lines


def _limits(item: dict[str, Any]) -> list[str]:
    return [f"{limit['name']} {limit['shown']} ({enforcement(limit)})" for limit in item.get("limits") or []]


ITEM: list[Column] = [
    ("Name", "name"), ("Family", "family"), ("Extension", _extension), ("Digest", "digest"), ("Hosting", "hosting"),
    ("Address", lambda item: item.get("address") or ""), ("State", _state), ("PID", "pid"), ("Calls", "calls"),
    ("In flight", "in_flight"),
    ("Idle since", lambda item: moment(item["idle_since"]) if item.get("idle_since") else ""),
    ("Contract", _contract), ("Hooks", lambda item: ", ".join(item.get("hooks") or [])),
    ("Permissions", _permissions), ("Enforced", lambda item: ", ".join(dict.fromkeys(item.get("enforced") or []))),
    ("Limits", _limits), ("Restarts", lambda item: item["restarts"] or ""), ("Crashes", _crashes),
    ("Says of itself", lambda item: [f"{key}: {_plain(value)}" for key, value in (item.get("described") or {}).items()
                                     if value not in (None, "", [], {})]),
    ("Log", "log"),
]
CALLS: list[Column] = [
    ("Ended", lambda item: precise(item["at"])), ("Plugin", "plugin"), ("Hook", "hook"),
    ("Took", lambda item: seconds(item["duration"])), ("Outcome", "outcome"), ("Call", "call_id"),
    ("Trace", lambda item: str(item["traceparent"])[3:35]),
]
STATISTICS: list[Column] = [
    ("Plugin", "plugin"), ("Version", "version"), ("Hook", "hook"), ("Calls", "calls"),
    ("Errors", lambda item: [f"{name}: {count}" for name, count in (item.get("errors") or {}).items()]),
    ("In flight", "in_flight"), ("p50", lambda item: seconds(item["p50"])), ("p95", lambda item: seconds(item["p95"])),
    ("p99", lambda item: seconds(item["p99"])), ("Total", lambda item: seconds(item["seconds"])),
]


@click.command("list")
@output_option
def list_(output: str) -> None:
    """List plugins with their state, process and last crash; starts none of them."""
    show_list(connect().get("plugins"), output, COLUMNS, empty="There are no plugins.")


@click.command("info")
@click.argument("name")
@output_option
def info(name: str, output: str) -> None:
    """Show the plugin NAME: contract, hooks, process, crashes, permissions.

    NAME is EXTENSION/PLUGIN, or less where that is unique. The plugin is not started for it.
    """
    show_item(connect().get("plugins", *name.split("/")), output, ITEM)


@click.command("logs")
@click.argument("name")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until stopped with Ctrl-C.")
def logs(name: str, following: bool) -> None:
    """Print what the processes of the plugin NAME wrote lately."""
    from fuseml_core.cli.logs import print_growing

    print_growing(connect(), ("plugins", *name.split("/"), "logs"), {}, following=following)


@click.command("trace")
@click.argument("name", required=False, default="")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until stopped with Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(1, 1000), default=50, show_default=True,
              help="How many calls at most, the newest.")
@output_option
def trace(name: str, following: bool, lines: int, output: str) -> None:
    """Show the last hook calls of the plugin NAME, by default of all, oldest first.

    The server remembers the last 1 000 calls. With --follow, each call is one line.
    """
    client = connect()
    if following:
        _follow(client, name, lines, output)
        return
    found = client.get("plugin-calls", query={"plugin": name, "limit": lines})
    show_list(found, output, CALLS, empty="No plugin was called since the server started.")


@click.command("stats")
@click.argument("name", required=False, default="")
@output_option
def stats(name: str, output: str) -> None:
    """Show rate, errors and duration by hook, of the plugin NAME or of all, since they were loaded."""
    show_list(connect().get("plugin-statistics", query={"plugin": name}), output, STATISTICS,
              empty="No plugin was called since the server started.")


@click.command("restart")
@click.argument("name")
@output_option
def restart(name: str, output: str) -> None:
    """Start the plugin NAME anew, also one that failed so often that it is not started by itself.

    Calls in flight end first; new ones go to the new process.
    """
    found = connect().post("plugins", *name.split("/"), "restart", timeout=_PATIENCE, repeatable=True)
    if output != "table":
        show_data(found, output)
        return
    echo(f"The plugin {found['name']} is {found['state']}" + (f" as process {found['pid']}." if found["pid"] else "."))


def first_line(crash: object) -> str:
    """The first line of what is known of a crash."""
    text = str(crash or "").strip()
    return text.splitlines()[0].removesuffix("; last output:") if text else ""


def seconds(value: float) -> str:
    """A short time such as `1.2 ms`; empty for none."""
    if value <= 0:
        return ""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def precise(at: float) -> str:
    """A point in time with milliseconds, in local time."""
    return f"{moment(at)}.{int(at * 1000) % 1000:03d}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={_amount(key, entry)}" for key, entry in value.items())
    return str(value)


def _amount(name: str, value: Any) -> str:
    """Amounts such as those of a capacity, without the decimals of whole numbers."""
    if not isinstance(value, float) or not value.is_integer():
        return str(value)
    return size(int(value)) if name == "memory" else str(int(value))


def _follow(client: Client, name: str, lines: int, output: str) -> None:
    """Print calls as they end, one line each, until Ctrl-C."""
    import json
    import sys

    after = 0.0
    while True:
        found = client.get("plugin-calls", query={"plugin": name, "after": after, "limit": lines}, patience=60.0)
        for call in found:
            after = max(after, float(call["at"]))
            if output == "table":
                echo(f"{precise(call['at'])} {call['plugin']} {call['hook']} {seconds(call['duration'])} "
                     f"{call['outcome']} {call['call_id']}")
            else:
                echo(json.dumps(call, ensure_ascii=False), raw=True)
        sys.stdout.flush()
        lines = 1000
        if not found:
            time.sleep(_PAUSE)
