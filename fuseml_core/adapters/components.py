"""Components of the plugin host, found by what they are for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fuseml_core.domain.errors import NotFound, Unavailable
from fuseml_core.host import AgentFacade, BuilderFacade, ComponentInfo, PluginHost, StoreFacade
from fuseml_sdk.errors import PluginError


class HostedPlugins:
    """Implements the port `Components` over the plugin host.

    Args:
        host: The plugin host. Built-in components come first where several would do.
        variables: The settings of an extension as environment variables.
    """

    def __init__(self, host: PluginHost, variables: Callable[[str], dict[str, str]]) -> None:
        self._host, self._variables = host, variables
        self._kinds: dict[str, tuple[str, ...]] = {}

    def store(self, kind: str) -> StoreFacade:
        """The default store of a kind; see `Components`."""
        for info in self._of("store"):
            if kind in self._store_kinds(info.component.id):
                return self._host.store(info.component.id)
        raise Unavailable(f"no artifact store keeps artifacts of kind {kind}", hint="See `fuseml agent list`.")

    def stores(self) -> Sequence[tuple[str, StoreFacade]]:
        """All stores by name."""
        return [(_name(i), self._host.store(i.component.id)) for i in self._of("store")]

    def agent(self, name: str) -> AgentFacade:
        """A workload agent by name; see `Components`."""
        for info in self._of("agent"):
            if _name(info) == name:
                return self._host.agent(info.component.id)
        raise Unavailable(f"there is no workload agent {name!r}", hint="See `fuseml agent list`.")

    def agents(self) -> Sequence[tuple[str, AgentFacade]]:
        """All workload agents by name."""
        return [(_name(i), self._host.agent(i.component.id)) for i in self._of("agent")]

    def builders(self) -> Sequence[tuple[str, BuilderFacade]]:
        """All builders by name."""
        return [(_name(i), self._host.builder(i.component.id)) for i in self._of("builder")]

    def variables(self, extension: str) -> dict[str, str]:
        """The settings of an extension for workloads; see `Components`."""
        return self._variables(extension)

    def overview(self) -> list[dict[str, Any]]:
        """Every component with its host, state and last crash."""
        return [self._view(info) for info in self._host.components()]

    def _of(self, family: str) -> list[ComponentInfo]:
        found = [i for i in self._host.components() if i.component.family == family]
        return sorted(found, key=lambda i: (i.component.hosting != "in-process", i.component.id))

    def _store_kinds(self, identifier: str) -> tuple[str, ...]:
        if identifier not in self._kinds:
            self._kinds[identifier] = tuple(self._host.store(identifier).describe().kinds)
        return self._kinds[identifier]

    def _view(self, info: ComponentInfo) -> dict[str, Any]:
        component = info.component
        view: dict[str, Any] = {
            "name": _name(info), "family": component.family, "extension": component.extension,
            "version": component.version, "hosting": component.hosting, "state": info.state, "pid": info.pid,
            "restarts": info.restarts, "last_crash": info.last_crash, "kinds": [], "capacity": {}}
        # Only what runs already is asked: a list must not start processes.
        if component.hosting == "in-process":
            view |= self._described(component.family, component.id)
        return view

    def _described(self, family: str, identifier: str) -> dict[str, Any]:
        try:
            if family == "store":
                return {"kinds": list(self._store_kinds(identifier))}
            if family == "agent":
                description = self._host.agent(identifier).describe()
                return {"kinds": list(description.kinds), "capacity": description.capacity}
        except (PluginError, NotFound):
            return {}
        return {}


def _name(info: ComponentInfo) -> str:
    component = info.component
    return component.name if component.hosting == "in-process" else f"{component.extension}/{component.name}"
