"""Plugins under development: components that an author runs, known to the server for as long as that goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fuseml_core.domain.errors import Conflict, Invalid
from fuseml_sdk.manifest import NAME, SEMVER

#: Seconds that an author's command may be silent before it counts as gone.
LEASE = 10.0


@dataclass(frozen=True, slots=True)
class DevelopedComponent:
    """One component that an author runs.

    Attributes:
        family: store, agent or builder.
        name: Within the extension.
        address: `unix:<absolute path>` of the socket on which it is served.
    """

    family: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Developed:
    """What an author runs of one extension.

    Attributes:
        extension: Its name.
        version: As its manifest says.
        components: Its components.
        start: Counts how often the author's process was started; another number may mean other hooks.
    """

    extension: str
    version: str
    components: tuple[DevelopedComponent, ...]
    start: int = 0


class DevelopmentHost(Protocol):
    """The plugin host, as far as plugins under development go."""

    def put(self, developed: Developed) -> None:
        """Make components known, in the place of those of the same extension that were known before."""
        ...

    def drop(self, extension: str) -> None:
        """Forget the components of an extension under development."""
        ...

    def serves(self, developed: Developed) -> bool:
        """Whether somebody still listens where components were known."""
        ...

    def installed(self, extension: str) -> str:
        """The version of an extension that is installed, too; empty if none is."""
        ...


class Development:
    """Holds a lease for each extension that somebody develops.

    Args:
        host: Where the components become known.
        lease: Seconds that a renewal is good for.
    """

    def __init__(self, host: DevelopmentHost, lease: float = LEASE) -> None:
        self._host, self._lease = host, lease
        self._lock = threading.Condition()
        self._held: dict[str, tuple[Developed, float]] = {}
        self._sweeper: threading.Thread | None = None

    def hold(self, developed: Developed) -> dict[str, Any]:
        """Make the components of an extension known, or go on doing so.

        Returns:
            `extension`; `lease`, the seconds until it must be renewed; and `installed`, the version that is installed
            and not used meanwhile, empty if there is none.

        Raises:
            Invalid: A name, the version or an address cannot be one.
            Conflict: Somebody else develops it.
        """
        _check(developed)
        with self._lock:
            known = self._held.get(developed.extension)
            if known is not None and _places(known[0]) != _places(developed) and self._host.serves(known[0]):
                raise Conflict(f"{developed.extension} is under development already: another `fuseml plugin dev` "
                               f"serves it at {', '.join(sorted(_places(known[0])))}",
                               hint="End that one, or run this one with --no-server.")
            if known is None or known[0] != developed:
                self._host.put(developed)
            self._held[developed.extension] = developed, time.monotonic() + self._lease
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="fuseml-development", daemon=True)
                self._sweeper.start()
        return {"extension": developed.extension, "lease": self._lease,
                "installed": self._host.installed(developed.extension)}

    def release(self, extension: str) -> bool:
        """Forget an extension under development. Returns False if nobody develops it."""
        with self._lock:
            if self._held.pop(extension, None) is None:
                return False
            self._host.drop(extension)
            self._lock.notify()
        return True

    def _sweep(self) -> None:
        """Forget whatever was not renewed in time; ends when there is nothing left to watch."""
        with self._lock:
            while self._held:
                now = time.monotonic()
                for extension in [name for name, (_, until) in self._held.items() if until <= now]:
                    del self._held[extension]
                    self._host.drop(extension)
                if self._held:
                    self._lock.wait(max(0.05, min(until for _, until in self._held.values()) - now))
            self._sweeper = None


def _places(developed: Developed) -> set[str]:
    return {component.address for component in developed.components}


def _check(developed: Developed) -> None:
    names: Sequence[str] = [developed.extension, *(component.name for component in developed.components)]
    for name in names:
        if not NAME.match(name):
            raise Invalid(f"{name!r} is not a name", hint="Use lower-case letters, digits and single hyphens.")
    if not SEMVER.match(developed.version):
        raise Invalid(f"{developed.version!r} is not a semantic version", hint="Write it as 1.2.3.")
    if not developed.components:
        raise Invalid("there is no component to develop")
    for component in developed.components:
        if not component.address.startswith("unix:/"):
            raise Invalid(f"{component.address!r} is not the address of a socket of this machine",
                          hint="It begins with unix:/")
