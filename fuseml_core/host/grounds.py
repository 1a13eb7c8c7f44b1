"""Which folders belong to whom: what a confined component may hand out, and what it may change at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuseml_core.host.components import Component
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.readable import touches
from fuseml_sdk.permissions import Permission, parse, unknown


class Grounds:
    """The folders of all components that are or were hosted here; safe to use from several threads.

    Args:
        protected: Folders of the server that no permission opens.
        states: Folder of the state folders of extensions, those that are not hosted now included; None knows none.
    """

    def __init__(self, protected: Sequence[Path] = (), states: Path | None = None) -> None:
        self._protected = tuple(protected)
        self._states = states
        self._claimed: frozenset[Path] = frozenset()

    def claim(self, component: Component) -> None:
        """Remember what a confined component may change; for good, since what it has put there stays."""
        written = [path for permission, path in self._granted(component)
                   if permission.kind.form.startswith("filesystem:write")]
        self._claimed |= {component.state_dir, *_made_for(component), *written}

    def root_of(self, path: Path) -> Path | None:
        """The folder around a path that some component may change, without links; None if there is none.

        The path as it is written counts first: what a component has put a link to lies in its folder.
        """
        for place in (os.path.normpath(path), os.path.realpath(path)):
            for root in self._roots(Path(place)):
                real = Path(os.path.realpath(root))
                if Path(place).is_relative_to(real) or Path(place).is_relative_to(root):
                    return real
        return None

    def owns(self, component: Component, path: Path) -> bool:
        """Whether a component may read a path by itself, and so hand it out."""
        real = Path(os.path.realpath(path))
        roots: Iterable[Path] = (component.state_dir, *_made_for(component), *component.readable,
                                 *(root for _, root in self._granted(component)))
        return any(real.is_relative_to(os.path.realpath(root)) for root in roots)

    def shields(self, component: Component, path: Path) -> bool:
        """Whether a path is of the server or of another component."""
        real = Path(os.path.realpath(path))
        if real.is_relative_to(os.path.realpath(component.state_dir)):
            return False
        return self.root_of(path) is not None or any(
            real.is_relative_to(os.path.realpath(mine)) for mine in self._protected)

    def _roots(self, place: Path) -> list[Path]:
        found = sorted(self._claimed)
        if self._states is not None:
            for states in (self._states, Path(os.path.realpath(self._states))):
                if place.is_relative_to(states) and place != states:
                    found.append(states / place.relative_to(states).parts[0])
        return found

    def _granted(self, component: Component) -> list[tuple[Permission, Path]]:
        """The permissions for files that it declares and gets."""
        declared = [parse(name) for name in component.permissions if not unknown([name])]
        files = [(each, Path(each.argument)) for each in declared if each.kind.form.startswith("filesystem:")]
        return [(each, path) for each, path in files if not touches(path, self._protected)]


def _made_for(component: Component) -> tuple[Path, ...]:
    folders = HostFolders(component.state_dir)
    return folders.incoming, folders.workloads, folders.temporaries
