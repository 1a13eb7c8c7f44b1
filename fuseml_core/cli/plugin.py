"""`fuseml plugin`: plugins from both sides, their authors' and their operators'; commands are imported when used."""

from __future__ import annotations

import click

from fuseml_core.cli.tables import TableGroup

_HERE = "fuseml_core.cli"
COMMANDS: dict[str, tuple[str, str]] = {
    "new": (f"{_HERE}.plugin_new:new", "Begin a plugin that works at once: a store, an agent or a builder."),
    "dev": (f"{_HERE}.plugin_dev:dev", "Run a plugin from its source, again after every change."),
    "test": (f"{_HERE}.plugin_test:test", "Run a plugin's tests, and keep what they saw."),
    "conform": (f"{_HERE}.plugin_test:conform", "Check a plugin that runs, in whatever language, against the rules."),
    "list": (f"{_HERE}.plugin_show:list_", "List plugins: where they run and what they are doing."),
    "info": (f"{_HERE}.plugin_show:info", "Show a plugin: contract, hooks, process, crashes."),
    "logs": (f"{_HERE}.plugin_show:logs", "Print what a plugin's processes wrote."),
    "trace": (f"{_HERE}.plugin_show:trace", "Show the last hook calls."),
    "stats": (f"{_HERE}.plugin_show:stats", "Show rate, errors and duration by hook."),
    "restart": (f"{_HERE}.plugin_show:restart", "Start a plugin anew."),
    "contract": (f"{_HERE}.plugin_contract:contract", "The contract: show its hooks, tell what changes mean."),
}


@click.group(cls=TableGroup, table=COMMANDS)
def plugin() -> None:
    """Plugins: artifact stores, workload agents and builders. Write, test, inspect and trace them."""
