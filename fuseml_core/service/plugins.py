"""Looking at plugins: which there are, how they are, what they write and which calls they get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fuseml_core.domain.errors import Conflict, Invalid, NotFound

#: Records and characters that one answer has at most.
MAX_CALLS, MAX_TEXT = 1000, 1 << 20


class Inspection(Protocol):
    """The plugin host, as far as people look into it. Looking starts no plugin."""

    def plugins(self) -> list[dict[str, Any]]:
        """Every plugin, those of extensions that rest included: see :meth:`Plugins.list`."""
        ...

    def detail(self, plugin: dict[str, Any]) -> dict[str, Any]:
        """One of them with everything that is known: see :meth:`Plugins.get`."""
        ...

    def calls(self, plugin: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The last calls, oldest first, of a plugin or of all."""
        ...

    def statistics(self, plugin: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Rate, errors and duration by hook, of a plugin or of all."""
        ...

    def logs(self, plugin: dict[str, Any], cursor: str, limit: int) -> dict[str, Any]:
        """A piece of what the processes of a plugin wrote: `text`, `cursor`."""
        ...

    def restart(self, plugin: dict[str, Any]) -> None:
        """Start a plugin anew; calls in flight end first."""
        ...

    def metrics(self) -> str:
        """Everything countable, in the text format of Prometheus."""
        ...


class Plugins:
    """Use cases around plugins as they run.

    Args:
        inspection: The plugin host.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def list(self) -> list[dict[str, Any]]:
        """Every plugin by name.

        Returns:
            `name`, `family`, `extension`, `version`, `digest`, `hosting`, `state`, `in_force` (new calls go there),
            `pid`, `restarts`, `last_crash`, `calls`, `in_flight`, `kinds`, `id`.
        """
        return self._inspection.plugins()

    def get(self, name: str) -> dict[str, Any]:
        """One plugin.

        Args:
            name: `<extension>/<plugin>`, or less where that is unique; with `@<digest>` a version that is on its way
                out.

        Returns:
            As :meth:`list`, and `id`, `hooks`, `contract`, `permissions`, `limits`, `crashes`, `statistics`,
            `described`, `idle_since`, `log`.

        Raises:
            NotFound: There is none of this name.
            Conflict: There are several.
        """
        return self._inspection.detail(self._find(name))

    def calls(self, name: str, after: float, limit: int) -> Sequence[dict[str, Any]]:
        """Calls that have ended lately, oldest first.

        Args:
            name: Of a plugin; empty: of all.
            after: Only those that ended later, in seconds since the epoch.
            limit: How many at most, the newest.

        Raises:
            NotFound, Conflict: As :meth:`get`.
            Invalid: The limit cannot be used.
        """
        if not 1 <= limit <= MAX_CALLS:
            raise Invalid(f"the limit is {limit}", hint=f"Give a number from 1 to {MAX_CALLS}.")
        found = self._inspection.calls(self._find(name) if name else None)
        return [call for call in found if call["at"] > after][-limit:]

    def statistics(self, name: str) -> Sequence[dict[str, Any]]:
        """Rate, errors and duration of each hook that was called; of all plugins when `name` is empty."""
        return self._inspection.statistics(self._find(name) if name else None)

    def logs(self, name: str, cursor: str, limit: int) -> dict[str, Any]:
        """A piece of what the processes of a plugin wrote.

        Args:
            name: Of the plugin.
            cursor: Where the last piece ended; empty: the last lines.
            limit: Characters at most.

        Raises:
            NotFound, Conflict: As :meth:`get`.
            Invalid: The plugin has no log of its own, or the cursor cannot be read.
        """
        return self._inspection.logs(self._find(name), cursor, max(1, min(limit, MAX_TEXT)))

    def restart(self, name: str) -> dict[str, Any]:
        """Start a plugin anew, also one that failed so often that it is not started by itself; returns it."""
        self._inspection.restart(self._find(name))
        return self.get(name)

    def metrics(self) -> str:
        """Everything countable about plugins, in the text format of Prometheus."""
        return self._inspection.metrics()

    def _find(self, name: str) -> dict[str, Any]:
        every = self._inspection.plugins()
        for found in _matches(every, name):
            if len({(entry["family"], entry["name"]) for entry in found}) == 1:
                # Also one that is installed and being developed: the latter is called then, and it has no digest.
                return min(found, key=lambda entry: bool(entry["digest"]))
            there = ", ".join(f"{entry['family']}/{entry['name']}" for entry in found)
            raise Conflict(f"the plugin name {name!r} is ambiguous: {there}", hint="Write one of these.")
        there = ", ".join(sorted({str(entry["name"]) for entry in every}))
        raise NotFound(f"there is no plugin {name!r}", hint=f"There are: {there}.")


def _matches(every: Sequence[dict[str, Any]], name: str) -> list[list[dict[str, Any]]]:
    """Plugins that a name may mean, the most exact reading first."""
    current = [entry for entry in every if entry["in_force"]]
    readings = [
        [entry for entry in every if entry["id"] == name],
        [entry for entry in current if f"{entry['family']}/{entry['name']}" == name],
        [entry for entry in current if entry["name"] == name],
        [entry for entry in current if name in (entry["extension"], str(entry["name"]).rpartition("/")[2])],
    ]
    return [reading for reading in readings if reading]
