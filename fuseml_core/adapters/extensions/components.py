"""Components of installed extensions in the plugin host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Conflict, Failed, NotFound
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.host.components import Component
from fuseml_core.host.plugin_host import PluginHost
from fuseml_sdk.errors import PluginError
from fuseml_sdk.manifest import PLACEHOLDER

#: Seconds a component has for its first answer; importing a large tool takes a while on a busy machine.
_FIRST_ANSWER = 120.0


def component_id(extension: InstalledExtension, family: str, name: str) -> str:
    """Id of a component in the host: each version of an extension has its own."""
    return f"{family}/{extension.name}/{name}@{extension.digest.partition(':')[2][:12]}"


class HostedComponents:
    """Registers, checks and removes components; implements the port `ComponentHost`.

    Args:
        host: The plugin host.
        state: Folder that holds one state folder for each extension, shared by its versions.
        config: The settings of an extension; asked whenever its components are registered.
    """

    def __init__(self, host: PluginHost, state: Path, config: Callable[[InstalledExtension], dict[str, Any]]) -> None:
        self._host, self._state, self._config = host, state, config

    def load(self, extension: InstalledExtension) -> None:
        """Register the components of a version without starting anything; done already is fine."""
        for component in self._components(extension):
            try:
                self._host.add(component)
            except Conflict:
                continue

    def check(self, extension: InstalledExtension) -> None:
        """Start each component and ask it to describe itself."""
        for component in self._components(extension):
            try:
                self._host.call(component.id, f"{component.family}_describe", {}, _FIRST_ANSWER)
            except PluginError as error:
                raise Failed(f"{component.title} does not work: {error.message}", hint=error.hint,
                             details=error.details) from error

    def configure(self, extension: InstalledExtension) -> None:
        """Put components with the settings of now in the place of those registered, and let each describe itself."""
        for component in self._components(extension):
            self._host.replace(component)
        self.check(extension)

    def unload(self, extension: InstalledExtension) -> None:
        """Stop and remove the components of a version; those not registered are passed over."""
        for component in self._components(extension):
            try:
                self._host.remove(component.id)
            except NotFound:
                continue

    def state(self, extension: InstalledExtension) -> list[dict[str, Any]]:
        """Components with `family`, `name`, `hosting`, `state`, `pid`, `restarts`, `last_crash`."""
        infos = {info.component.id: info for info in self._host.components()}
        return [{"family": component.family, "name": component.name, "hosting": component.hosting,
                 "state": info.state if info else "stopped", "pid": info.pid if info else None,
                 "restarts": info.restarts if info else 0, "last_crash": info.last_crash if info else ""}
                for component in self._components(extension) for info in (infos.get(component.id),)]

    def _components(self, extension: InstalledExtension) -> Iterator[Component]:
        config = self._config(extension) if extension.components else {}
        for entry in extension.components:
            address = entry.get("address") or ""
            yield Component(
                id=component_id(extension, entry["family"], entry["name"]), extension=extension.name,
                version=extension.version, digest=extension.digest, family=entry["family"], name=entry["name"],
                plugin=entry.get("plugin") or "", hosting="address" if address else "subprocess", config=config,
                state_dir=self._state / extension.name, python=Path(extension.python) if extension.python else None,
                address=filled(address, extension, config),
                token=filled(entry.get("token") or "", extension, config, missing=""))


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
