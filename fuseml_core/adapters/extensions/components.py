"""Components of installed extensions in the plugin host."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fuseml_core.adapters.routes import Routes
from fuseml_core.domain.errors import Conflict, Failed, NotFound
from fuseml_core.domain.extensions import InstalledExtension, Rest
from fuseml_core.host.components import Component, ComponentInfo
from fuseml_core.host.limits import Limits
from fuseml_core.host.plugin_host import PluginHost
from fuseml_core.service.extensions.schema import SettingsSchema
from fuseml_sdk.errors import PluginError
from fuseml_sdk.manifest import PLACEHOLDER
from fuseml_sdk.permissions import asked_for

#: Seconds a component has for its first answer; importing a large tool takes a while on a busy machine.
_FIRST_ANSWER = 120.0


def component_id(extension: InstalledExtension, family: str, name: str) -> str:
    """Id of a component in the host: each version of an extension has its own."""
    return f"{family}/{extension.name}/{name}@{extension.digest.partition(':')[2][:12]}"


class HostedComponents:
    """Registers, checks and removes components; implements the port `ComponentHost`.

    What is registered is asked of the host; what is in force is said by the routes.

    Args:
        host: The plugin host.
        state: Folder that holds one state folder for each extension, shared by its versions.
        config: The settings of an extension; asked whenever its components are registered.
        routes: Where names lead.
        resting: Why nothing of an extension may be loaded now; None when it may.
        bundle: Where the unpacked bundle with a digest lies; its components may read it.
        limits: What a component may use, by the name of its extension and what the manifest says of it.
    """

    def __init__(self, host: PluginHost, state: Path, config: Callable[[InstalledExtension], dict[str, Any]],
                 routes: Routes | None = None, resting: Callable[[str], Rest | None] = lambda _name: None,
                 bundle: Callable[[str], Path] | None = None,
                 limits: Callable[[str, Mapping[str, Any]], dict[str, int]] = lambda _name, _entry: {}) -> None:
        self._limits = limits
        self._host, self._state, self._config, self._bundle = host, state, config, bundle
        self._routes, self._resting = routes or Routes(), resting

    def load(self, extension: InstalledExtension, only: Collection[str] | None = None) -> None:
        """Register the components of a version and let their names lead to them; starts nothing."""
        if only is None:
            self.prepare(extension)
        else:
            self._prepare(component for component in self._components(extension) if component.name in only)
        self._routes.direct(self._latest(extension).values())

    def prepare(self, extension: InstalledExtension) -> None:
        """Register the components of a version, with the settings of now, beside those in force; starts nothing.

        Of an extension that rests only those that are loaded all the same: they look after workloads.
        """
        wanted = self._components(extension)
        if self._resting(extension.name) is not None:
            in_force = self._routes.ids()
            loaded = {(c.family, c.name) for c in self._registered(extension) if c.id in in_force}
            wanted = (component for component in wanted if (component.family, component.name) in loaded)
        self._prepare(wanted)

    def check(self, extension: InstalledExtension) -> dict[str, Any]:
        """Start each component that was registered last and ask it to describe itself."""
        described = {}
        for component in self._latest(extension).values():
            try:
                found = self._host.call(component.id, f"{component.family}_describe", {}, _FIRST_ANSWER)
            except PluginError as error:
                raise Failed(f"{component.title} does not work: {error.message}", details=error.details,
                             hint=" ".join(filter(None, (error.hint, self._log(component))))) from error
            described[f"{component.family}/{component.name}"] = found.model_dump(mode="json")
        return described

    def put_in_force(self, extension: InstalledExtension) -> None:
        """Let names lead to what was registered last of a version; the same version with other settings goes."""
        latest = self._latest(extension)
        self._routes.direct(latest.values())
        kept = {component.id for component in latest.values()}
        self._remove(component for component in self._registered(extension) if component.id not in kept)

    def discard(self, extension: InstalledExtension) -> None:
        """Remove what is registered of a version and not in force."""
        in_force = self._routes.ids()
        self._remove(component for component in self._registered(extension) if component.id not in in_force)

    def unload(self, extension: InstalledExtension, keep: Collection[str] = ()) -> None:
        """Let no name lead to a version any more; calls in flight end, then its processes do."""
        gone = [c for c in self._registered(extension) if c.family != "agent" or c.name not in keep]
        self._routes.drop([component.id for component in gone])
        self._remove(gone)

    def state(self, extension: InstalledExtension) -> list[dict[str, Any]]:
        """Components with `family`, `name`, `hosting`, `state`, `pid`, `restarts`, `last_crash` and `enforced`."""
        shown, in_force = self._latest(extension), self._routes.ids()
        shown |= {(c.family, c.name): c for c in self._registered(extension) if c.id in in_force}
        infos: dict[tuple[str, str], ComponentInfo] = {}
        for key, component in shown.items():
            with suppress(NotFound):  # it may go at this moment
                infos[key] = self._host.info(component.id)
        rest = self._resting(extension.name)
        return [_state(entry, infos.get((entry["family"], entry["name"])), rest) for entry in extension.components]

    def judge(self, permission: str) -> tuple[bool, str]:
        """Whether this machine enforces a permission, and by what or why not; see :meth:`Isolation.judge`."""
        return self._host.isolation.judge(permission)

    def judge_limit(self, name: str) -> tuple[bool, str]:
        """Whether this machine holds components to a limit, and by what; see :meth:`Isolation.judge_limit`."""
        return self._host.isolation.judge_limit(name)

    def isolation(self) -> list[dict[str, Any]]:
        """What keeps plugin processes in their place here: `name`, `enforced` and `reason` of each measure."""
        return [asdict(measure) for measure in self._host.isolation.measures()]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _log(self, component: Component) -> str:
        """Where to read more, for a version that does not get installed has no command that shows it."""
        return f"What it wrote: {self._host.log_of(component)}" if component.hosting == "subprocess" else ""

    def _prepare(self, components: Iterable[Component]) -> None:
        for component in components:
            siblings = [c for c in self._host.registered() if _revised(c.id)[0] == component.id]
            latest = max(siblings, key=lambda sibling: _revised(sibling.id)[1], default=None)
            if latest is None:
                self._add(component)
            elif replace(latest, id=component.id) != component:
                self._add(replace(component, id=f"{component.id}~{_revised(latest.id)[1] + 1}"))

    def _add(self, component: Component) -> None:
        with suppress(Conflict):  # another thread was faster with the same
            self._host.add(component)

    def _registered(self, extension: InstalledExtension) -> list[Component]:
        return [component for component in self._host.registered() if component.digest == extension.digest]

    def _latest(self, extension: InstalledExtension) -> dict[tuple[str, str], Component]:
        """Of each component of a version what was registered last."""
        found = sorted(self._registered(extension), key=lambda component: _revised(component.id)[1])
        return {(component.family, component.name): component for component in found}

    def _remove(self, components: Iterable[Component]) -> None:
        """All at the same time: each may have calls in flight that it finishes first."""
        threads = [threading.Thread(target=self._remove_one, args=(component.id,)) for component in components]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _remove_one(self, identifier: str) -> None:
        with suppress(NotFound):
            self._host.remove(identifier)

    def _components(self, extension: InstalledExtension) -> Iterator[Component]:
        config = self._config(extension) if extension.components else {}
        secrets = SettingsSchema(extension.name, extension.manifest.get("config_schema") or {}).secrets
        permissions = tuple(entry["name"] for entry in asked_for(extension.manifest))
        readable = (self._bundle(extension.digest),) if self._bundle is not None else ()
        for entry in extension.components:
            address = entry.get("address") or ""
            yield Component(
                id=component_id(extension, entry["family"], entry["name"]), extension=extension.name,
                version=extension.version, digest=extension.digest, family=entry["family"], name=entry["name"],
                plugin=entry.get("plugin") or "", hosting="address" if address else "subprocess", config=config,
                state_dir=self._state / extension.name, python=Path(extension.python) if extension.python else None,
                limits=Limits() if address else Limits(**self._limits(extension.name, entry)),
                permissions=permissions, readable=readable, secrets=secrets, address=filled(address, extension, config),
                token=filled(entry.get("token") or "", extension, config, missing=""))


def _revised(identifier: str) -> tuple[str, int]:
    """The id that a component has by its version, and how often its settings changed since that was loaded."""
    base, _, number = identifier.partition("~")
    return base, int(number or 0)


def _state(entry: dict[str, Any], info: ComponentInfo | None, rest: Rest | None) -> dict[str, Any]:
    hosting = "address" if entry.get("address") else "subprocess"
    view = {"family": entry["family"], "name": entry["name"], "hosting": hosting}
    if info is None:
        return view | {"state": rest.state if rest else "stopped", "pid": None, "restarts": 0, "last_crash": "",
                       "enforced": []}
    return view | {"state": info.state, "pid": info.pid, "restarts": info.restarts, "last_crash": info.last_crash,
                   "enforced": list(info.enforced)}


def filled(text: str, extension: InstalledExtension, config: dict[str, Any], missing: str | None = None) -> str:
    """Put settings in the place of `{setting}`.

    Args:
        text: An address or a token as the manifest says it.
        extension: Its schema says what a setting is that nobody set.
        config: The settings of now.
        missing: Stands for settings without any value; None leaves the placeholder, so that its use can be refused.
    """
    declared = (extension.manifest.get("config_schema") or {}).get("properties") or {}

    def value(found: re.Match[str]) -> str:
        rule = declared.get(found[1])
        default = rule.get("default") if isinstance(rule, dict) else None
        chosen = config.get(found[1], default)
        absent = found[0] if missing is None else missing
        return absent if chosen in (None, "") else str(chosen)

    return PLACEHOLDER.sub(value, text)
