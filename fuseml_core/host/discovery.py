"""Finds first-party plugins that are installed beside the server, by entry point."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from importlib_metadata import entry_points

from fuseml_core.host.components import Component, Family
from fuseml_sdk import ENTRY_POINT_GROUP, loading


@dataclass(frozen=True)
class Discovered:
    """A plugin that a distribution announces; nothing of it is imported yet.

    Attributes:
        name: Name of the entry point, such as `git`.
        plugin: `module:attribute` of the plugin object.
        distribution: Name of the distribution, such as `fuseml-git`.
        version: Its version.
    """

    name: str
    plugin: str
    distribution: str
    version: str


def discover(names: Collection[str] | None = None) -> list[Discovered]:
    """List installed plugins by name, without importing them.

    Args:
        names: Entry-point names to keep; None keeps all.
    """
    found = [
        Discovered(point.name, point.value, point.dist.metadata["Name"] if point.dist else "",
                   point.dist.version if point.dist else "")
        for point in entry_points(group=ENTRY_POINT_GROUP) if names is None or point.name in names
    ]
    return sorted(found, key=lambda each: each.name)


def first_party(found: Discovered, *, state_root: Path, config: Mapping[str, Any] | None = None) -> list[Component]:
    """Make in-process components of a discovered plugin, one per family that it implements; this imports it.

    Args:
        found: From :func:`discover`.
        state_root: Holds one state directory per plugin.
        config: Given to the plugin.

    Returns:
        Components with ids `<family>/<name>`.

    Raises:
        Exception: Whatever importing the plugin raises; `Permanent` if it does not fit the contract.
    """
    manager = loading.manager_for(loading.load(found.plugin))
    return [_component(found, family, state_root, config or {}) for family in loading.families(manager)]


def _component(found: Discovered, family: str, state_root: Path, config: Mapping[str, Any]) -> Component:
    known: dict[str, Family] = {"store": "store", "agent": "agent", "builder": "builder"}
    return Component(id=f"{family}/{found.name}", extension=found.distribution, version=found.version, digest="",
                     family=known[family], name=found.name, plugin=found.plugin, hosting="in-process",
                     config=dict(config), state_dir=state_root / found.distribution)
