"""Extensions of which nothing is loaded: disabled ones, and all of them in safe mode."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fuseml_core.domain.extensions import Rest
from fuseml_core.service.extensions.ports import DisabledExtensions


class Resting:
    """Says why nothing of an extension may be loaded now. One object for the whole server.

    Args:
        disabled: Names of disabled extensions.
        safe_mode: The server was started without extensions.
    """

    def __init__(self, disabled: DisabledExtensions, *, safe_mode: bool = False) -> None:
        self._disabled, self.safe_mode = disabled, safe_mode
        self._lock = threading.Lock()
        self._leaving: set[str] = set()
        # Asked about at every call of a plugin; only this object writes it.
        self._since: dict[str, float] | None = None

    def of(self, name: str) -> Rest | None:
        """Why nothing of the extension `name` is loaded; None if everything of it may be."""
        if self.safe_mode:
            return Rest("safe mode", f"the server was started without extensions, {name} among them",
                        "Start it with them: fuseml server stop, then fuseml server start")
        if name in self.disabled():
            return Rest("disabled", f"the extension {name} is disabled", f"Enable it: fuseml extension enable {name}")
        with self._lock:
            leaving = name in self._leaving
        return Rest("leaving", f"the extension {name} is being uninstalled", "It takes nothing new any more."
                    ) if leaving else None

    def since(self, name: str) -> float | None:
        """Since when it is disabled, in seconds since the epoch; None if it is not."""
        return self.disabled().get(name)

    def disabled(self) -> dict[str, float]:
        """Since when each disabled extension is."""
        with self._lock:
            if self._since is None:
                self._since = dict(self._disabled.all())
            return self._since

    def disable(self, name: str, now: float) -> None:
        """Write down that an extension is disabled; done already is fine."""
        self._disabled.add(name, now)
        with self._lock:
            self._since = None

    def enable(self, names: Collection[str]) -> None:
        """Write down that extensions are enabled; those that are already are passed over."""
        self._disabled.remove(names)
        with self._lock:
            self._since = None

    @contextmanager
    def leaving(self, names: Collection[str]) -> Iterator[None]:
        """Let extensions take nothing new while the block runs."""
        with self._lock:
            self._leaving |= set(names)
        try:
            yield
        finally:
            with self._lock:
                self._leaving -= set(names)
