"""Plugins under development in the plugin host; implements the port `DevelopmentHost`."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import cast

from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.host.components import Component, Family
from fuseml_core.host.plugin_host import PluginHost
from fuseml_core.service.development import Developed, DevelopedComponent

#: Ends the id of a component under development, where that of an installed one has its digest.
_MARK = "@dev"


class HostedDevelopment:
    """Adds components that are hosted by address, and removes them.

    Args:
        host: The plugin host.
        state: Folder that such components are told of; they do not use it, for they bring their own.
    """

    def __init__(self, host: PluginHost, state: Path) -> None:
        self._host, self._state = host, state

    def put(self, developed: Developed) -> None:
        """Make components known, in the place of what was developed under the same name before."""
        components = [self._component(developed, entry) for entry in developed.components]
        for identifier in set(self._ids(developed.extension)) - {component.id for component in components}:
            self._remove(identifier)
        for component in components:
            try:
                self._host.add(component)
            except Conflict:
                self._host.replace(component, 0.0)

    def drop(self, extension: str) -> None:
        """Forget what is developed under a name."""
        for identifier in self._ids(extension):
            self._remove(identifier)

    def serves(self, developed: Developed) -> bool:
        """Whether a connection to one of the sockets is accepted; that of an author who is gone is not."""
        return any(_is_accepted(component.address.removeprefix("unix:")) for component in developed.components)

    def installed(self, extension: str) -> str:
        """The version of an installed extension; empty if it is not installed."""
        return next((info.component.version for info in self._host.components()
                     if info.component.extension == extension and not info.component.id.endswith(_MARK)), "")

    def _ids(self, extension: str) -> list[str]:
        return [info.component.id for info in self._host.components()
                if info.component.extension == extension and info.component.id.endswith(_MARK)]

    def _remove(self, identifier: str) -> None:
        try:
            self._host.remove(identifier, 0.0)
        except NotFound:
            return

    def _component(self, developed: Developed, entry: DevelopedComponent) -> Component:
        _check_socket(Path(entry.address.removeprefix("unix:")))
        return Component(
            id=f"{entry.family}/{developed.extension}/{entry.name}{_MARK}", extension=developed.extension,
            version=_marked(developed.version), digest="", family=cast("Family", entry.family), name=entry.name,
            plugin="", hosting="address", config={}, state_dir=self._state / developed.extension, address=entry.address)


def _marked(version: str) -> str:
    """The version with a mark that people see; also as a pre-release of a pre-release."""
    return f"{version}{'.' if '-' in version else '-'}dev"


def _is_accepted(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except TimeoutError:
            return True  # it is there, and busy
        except OSError:
            return False
    return True


def _check_socket(path: Path) -> None:
    """Only a socket of the user that the server runs as is called: whoever owns it could do all of this anyway."""
    try:
        facts = path.stat()
    except (OSError, ValueError) as error:  # a name that no file can have
        why = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise Invalid(f"there is no socket {path}: {why}") from None
    if not stat.S_ISSOCK(facts.st_mode) or facts.st_uid != os.getuid():
        raise Invalid(f"{path} is not a socket of the user that the server runs as",
                      hint="Run `fuseml plugin dev` as that user.")
