"""The table of commands: all that `fuseml --help` needs to know, so that showing it imports no command.

Each entry is `name: ("module:attribute", "short help")`; sections give the order in which help shows them.
"""

from __future__ import annotations

#: Section of the help -> commands in it.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "quickstart": ("fuseml_core.cli.quickstart:quickstart", "See it all work: train and serve an example model."),
    },
    "Work": {
        "train": ("fuseml_core.cli.train:train", "Train the code in a folder: push, run, show metrics and model."),
        "project": ("fuseml_core.cli.project:project", "Projects: create, choose, list, delete."),
        "codeset": ("fuseml_core.cli.codeset:codeset", "Code: push a folder, list and inspect versions."),
        "pipeline": ("fuseml_core.cli.pipeline:pipeline", "Pipelines: add from templates, pause, show results."),
        "run": ("fuseml_core.cli.run:run", "Pipeline runs: list, inspect, logs, start, cancel."),
        "service": ("fuseml_core.cli.service:service", "Served models: list, logs, predict, stop, start."),
        "change": ("fuseml_core.cli.change:change", "Changes: everything that follows from one push."),
    },
    "Artifacts": {
        "artifact": ("fuseml_core.cli.artifact:artifact", "Artifacts of every kind: list, get."),
        "model": ("fuseml_core.cli.artifact:model", "Models: list, get."),
        "dataset": ("fuseml_core.cli.artifact:dataset", "Datasets: list, get."),
        "runnable": ("fuseml_core.cli.artifact:runnable", "Runnables: list, get."),
    },
    "Administration": {
        "extension": ("fuseml_core.cli.extension:extension", "Extensions: install, upgrade, roll back, inspect."),
        "bundle": ("fuseml_core.cli.bundle:bundle", "Bundles: make, check, move, compare and sign packages."),
        "registry": ("fuseml_core.cli.registry:registry", "OCI registries: log in and out, serve one."),
        "key": ("fuseml_core.cli.key:key", "Keys that sign bundles: generate, import, list, show."),
        "policy": ("fuseml_core.cli.policy:policy", "Trust policy: whose extensions the server installs."),
        "marketplace": ("fuseml_core.cli.marketplace:marketplace", "Marketplaces: catalogs of extensions to follow."),
        "catalog": ("fuseml_core.cli.catalog:catalog", "Catalogs: submit to, curate, publish and mirror them."),
        "plugin": ("fuseml_core.cli.plugin:plugin", "Plugins: write, test, inspect and trace them."),
        "agent": ("fuseml_core.cli.agent:agent", "Components of extensions and what they are doing."),
        "server": ("fuseml_core.cli.server:server", "The local server: start, stop, status, logs."),
        "serve": ("fuseml_core.cli.server:serve", "Serve a model; without one, run the server in the foreground."),
        "config": ("fuseml_core.cli.config:config", "Settings in force and where they come from."),
    },
}

#: Every command by its name.
COMMANDS: dict[str, tuple[str, str]] = {
    name: entry for section in SECTIONS.values() for name, entry in section.items()
}
