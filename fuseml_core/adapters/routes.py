"""Which component of the plugin host answers to the name of a plugin now."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from fuseml_core.host import Component


def route_name(component: Component) -> str:
    """The name that a component goes by: `process` for a built-in one, `mlflow/mlflow` for that of an extension."""
    return component.name if component.hosting == "in-process" else f"{component.extension}/{component.name}"


class Routes:
    """Names of plugins of installed extensions, and the component that new calls to each of them go to.

    Several versions, and one version with several settings, can be registered at once: one is in force, another is
    being tried, a third finishes its last calls. A name moves from one to the next in a single step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[tuple[str, str], str] = {}

    def direct(self, components: Iterable[Component]) -> list[str]:
        """Let names lead to these components from now on.

        Returns:
            The ids that they led to before, as far as they are others.
        """
        new: dict[tuple[str, str], str] = {(c.family, route_name(c)): c.id for c in components}
        with self._lock:
            before = [self._routes[key] for key in new if key in self._routes]
            self._routes |= new
        return [identifier for identifier in before if identifier not in new.values()]

    def drop(self, identifiers: Collection[str]) -> None:
        """Let no name lead to these components any more."""
        with self._lock:
            self._routes = {key: identifier for key, identifier in self._routes.items()
                            if identifier not in identifiers}

    def find(self, family: str, name: str) -> str:
        """The id that a name leads to; empty if it leads nowhere."""
        with self._lock:
            return self._routes.get((family, name), "")

    def ids(self) -> frozenset[str]:
        """All ids that names lead to."""
        with self._lock:
            return frozenset(self._routes.values())
