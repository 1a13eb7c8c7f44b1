"""What people see of the plugin host: plugins, their logs, their calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from fuseml_core.adapters.extensions.components import filled
from fuseml_core.adapters.plugin_logs import read_log
from fuseml_core.adapters.routes import Routes, route_name
from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.domain.extensions import InstalledExtension, Rest
from fuseml_core.host import Component, ComponentInfo, PluginHost
from fuseml_core.service.extensions.plan import judge_of, judged
from fuseml_sdk.errors import PluginError
from fuseml_sdk.manifest import show_limit
from fuseml_sdk.permissions import asked_for

#: States that a component may be in, for the metrics.
_STATES = ("idle", "starting", "ready", "failed", "stopped", "disabled", "safe mode", "leaving")
#: Seconds that a plugin may take to say what it is when people look.
_PATIENCE = 5.0


class HostInspection:
    """Implements the port `Inspection` over the plugin host.

    Args:
        host: The plugin host.
        routes: Where the names of plugins of extensions lead.
        installed: The installed extensions.
        resting: Why nothing of an extension is loaded now; None when it may be.
        logs: Folder with one log file for each extension.
        config: The settings of an extension.
    """

    def __init__(self, host: PluginHost, routes: Routes, installed: Callable[[], Sequence[InstalledExtension]],
                 resting: Callable[[str], Rest | None], logs: Path,
                 config: Callable[[InstalledExtension], dict[str, Any]]) -> None:
        self._host, self._routes, self._installed = host, routes, installed
        self._resting, self._logs, self._config = resting, logs, config
        self._asked: dict[str, tuple[Component, dict[str, Any]]] = {}

    def plugins(self) -> list[dict[str, Any]]:
        """Every plugin by name; see `Plugins.list`."""
        extensions = {extension.digest: extension for extension in self._installed()}
        infos = self._host.components()
        views = [self._view(info, extensions.get(info.component.digest)) for info in infos]
        loaded = {(i.component.digest, i.component.family, i.component.name) for i in infos}
        for extension in extensions.values():
            rest = self._resting(extension.name)
            views += [_asleep(extension, entry, rest, self._address(extension, entry)) for entry in extension.components
                      if (extension.digest, entry["family"], entry["name"]) not in loaded]
        return sorted(views, key=lambda view: (view["hosting"] != "in-process", view["name"], view["family"]))

    def detail(self, plugin: dict[str, Any]) -> dict[str, Any]:
        """One plugin with everything that is known; see `Plugins.get`."""
        extension = next((e for e in self._installed() if e.digest == plugin["digest"]), None)
        info = self._info(plugin["id"])
        view = plugin | {"permissions": self._permissions(extension), "contract": None, "hooks": [], "crashes": [],
                         "limits": [], "enforced": [], "idle_since": None, "log": self._log(plugin),
                         "described": self._described(plugin, extension), "statistics": self.statistics(plugin)}
        if info is None:
            return view
        agreement = getattr(info, "agreement", None)
        contract = agreement.as_dict() if agreement is not None else None
        return view | {
            "contract": contract, "hooks": list(contract["hooks"]) if contract else [], "idle_since": info.idle_since,
            "crashes": [asdict(crash) for crash in info.crashes], "enforced": list(info.enforced),
            "limits": self._limits(info.component)}

    def _limits(self, component: Component) -> list[dict[str, Any]]:
        """What a process may use, and whether the machine holds it to that; of a plugin that the server starts."""
        if component.hosting != "subprocess":
            return []
        isolation = self._host.isolation
        found = []
        for name, value in isolation.limits(component).stated().items():
            enforced, how = isolation.judge_limit(name, component)
            found.append({"name": name, "value": value, "shown": show_limit(name, value), "enforced": enforced,
                          "how": how})
        return found

    def calls(self, plugin: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The last calls, oldest first; see `Plugins.calls`."""
        names = self._names()
        return [{**asdict(record), "plugin": names.get(record.component, _name_in(record.component))}
                for record in self._host.trace() if plugin is None or _is_of(record.component, plugin)]

    def statistics(self, plugin: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Rate, errors and duration by hook; see `Plugins.statistics`."""
        names = self._names()
        return [{**asdict(entry), "plugin": names.get(entry.component, _name_in(entry.component))}
                for entry in self._host.statistics() if plugin is None or _is_of(entry.component, plugin)]

    def logs(self, plugin: dict[str, Any], cursor: str, limit: int) -> dict[str, Any]:
        """A piece of what the processes of a plugin wrote; see `Plugins.logs`."""
        path = self._log(plugin)
        if path is None:
            where = ("is built in and writes to the log of the server" if plugin["hosting"] == "in-process" else
                     "is run by somebody else, who has its log")
            raise Invalid(f"the plugin {plugin['name']} {where}",
                          hint="See: fuseml server logs control" if plugin["hosting"] == "in-process" else "")
        label = f"{plugin['family']}/{str(plugin['name']).rpartition('/')[2]}"
        return read_log(Path(path), label, cursor, limit)

    def restart(self, plugin: dict[str, Any]) -> None:
        """Put a component in its own place: another process, no memory of failures; calls in flight end first."""
        info = self._info(plugin["id"])
        if info is None:
            rest = self._resting(plugin["extension"])
            raise Conflict(f"the plugin {plugin['name']} is not loaded" + (f": {rest.reason}" if rest else ""),
                           hint=rest.hint if rest else "")
        if info.component.hosting == "in-process":
            raise Invalid(f"the plugin {plugin['name']} is built in and lives as long as the server",
                          hint="Restart that: fuseml server stop, then fuseml server start")
        self._host.replace(info.component)
        self._host.call(info.component.id, f"{info.component.family}_describe", {}, 120.0)

    def metrics(self) -> str:
        """Calls by hook as the host counts them, and the state of each plugin."""
        registry = CollectorRegistry()
        labels = ("plugin", "family", "extension", "version")
        state = Gauge("fuseml_plugin_state", "1 for the state that a plugin is in.", (*labels, "state"),
                      registry=registry)
        restarts = Gauge("fuseml_plugin_restarts", "How often a plugin was started again.", labels, registry=registry)
        # One that is tried, or on its way out, may share its labels with the one in force, which comes last and counts.
        for view in sorted(self.plugins(), key=lambda view: bool(view["in_force"])):
            of = (view["name"], view["family"], view["extension"], view["version"])
            for name in _STATES:
                state.labels(*of, name).set(float(view["state"] == name))
            restarts.labels(*of).set(view["restarts"])
        return self._host.metrics_text() + generate_latest(registry).decode()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _view(self, info: ComponentInfo, extension: InstalledExtension | None) -> dict[str, Any]:
        component = info.component
        routed = not component.digest or component.id in self._routes.ids()
        described = (extension.described if extension else {}).get(f"{component.family}/{component.name}") or {}
        if not component.digest:
            described = self._ask(component) or {}
        kinds = list(described.get("kinds") or described.get("types") or [])
        return {
            "name": route_name(component), "family": component.family, "extension": component.extension,
            "version": component.version, "digest": component.digest, "hosting": component.hosting,
            "address": component.address or None, "state": info.state, "in_force": routed, "pid": info.pid,
            "restarts": info.restarts,
            "last_crash": info.last_crash, "calls": info.calls, "in_flight": info.in_flight,
            "kinds": kinds, "id": component.id}

    def _ask(self, component: Component) -> dict[str, Any] | None:
        """What a built-in plugin, or one that its author runs, says of itself; None if it says nothing.

        Each is asked once, for looking must not fill the trace of calls. Plugins of extensions said it when they were
        installed: a list must not start processes.
        """
        known = self._asked.get(component.id)
        if known is None or known[0] is not component:
            try:
                described = self._host.call(component.id, f"{component.family}_describe", {}, _PATIENCE)
            except (PluginError, NotFound):
                return None
            self._asked[component.id] = known = component, described.model_dump(mode="json")
        return known[1]

    def _address(self, extension: InstalledExtension, entry: dict[str, Any]) -> str | None:
        """Where a component that is not loaded would be found, with the settings of now."""
        return filled(entry["address"], extension, self._config(extension)) if entry.get("address") else None

    def _permissions(self, extension: InstalledExtension | None) -> list[dict[str, Any]]:
        """What the extension asks for, its secrets included, and whether this machine holds the plugin to it."""
        manifest = extension.manifest if extension else {}
        judge = judge_of(manifest, self._host.isolation.judge)
        return [judged(permission, judge) for permission in asked_for(manifest)]

    def _info(self, identifier: str) -> ComponentInfo | None:
        try:
            return self._host.info(identifier)
        except NotFound:
            return None

    def _names(self) -> dict[str, str]:
        return {component.id: route_name(component) for component in self._host.registered()}

    def _log(self, plugin: dict[str, Any]) -> str | None:
        return str(self._logs / f"{plugin['extension']}.log") if plugin["hosting"] == "subprocess" else None

    def _described(self, plugin: dict[str, Any], extension: InstalledExtension | None) -> dict[str, Any] | None:
        if extension is not None:
            return extension.described.get(f"{plugin['family']}/{str(plugin['name']).rpartition('/')[2]}")
        info = self._info(plugin["id"])
        return self._ask(info.component) if info is not None and not info.component.digest else None


def _asleep(extension: InstalledExtension, entry: dict[str, Any], rest: Rest | None,
            address: str | None) -> dict[str, Any]:
    described = extension.described.get(f"{entry['family']}/{entry['name']}") or {}
    return {
        "name": f"{extension.name}/{entry['name']}", "family": entry["family"], "extension": extension.name,
        "version": extension.version, "digest": extension.digest,
        "hosting": "address" if address else "subprocess", "address": address,
        "state": rest.state if rest else "stopped",
        "in_force": True, "pid": None, "restarts": 0, "last_crash": "", "calls": 0, "in_flight": 0,
        "kinds": list(described.get("kinds") or described.get("types") or []),
        "id": f"{entry['family']}/{extension.name}/{entry['name']}@{extension.digest.partition(':')[2][:12]}"}


def _name_in(identifier: str) -> str:
    """The name of a plugin that is gone, by the id that it had: `agent/ext/name@digest`."""
    return identifier.partition("/")[2].partition("@")[0]


def _is_of(identifier: str, plugin: dict[str, Any]) -> bool:
    """Whether an id is that of a plugin, in whatever version or with whatever settings."""
    return identifier == plugin["id"] or identifier.partition("@")[0] == str(plugin["id"]).partition("@")[0]
