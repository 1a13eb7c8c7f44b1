"""Removing what nothing needs any more, after showing what and why."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fuseml_core.domain.errors import FusemlError, Invalid
from fuseml_core.service.extensions.care_ports import Leftover, Leftovers
from fuseml_core.service.extensions.ports import Progress
from fuseml_sdk.errors import PluginError

log = logging.getLogger(__name__)
#: Seconds before the first quiet run after a start; what a start leaves behind must have settled.
_FIRST_AFTER = 600.0


class Collector:
    """The use case *gc*. One run at a time; what runs or is being made is never touched.

    Args:
        sources: Kinds of leftovers by name, in the order in which they are removed: what needs others goes first.
        on_request: Kinds that are looked for only when they are named, because they cannot be made again.
    """

    def __init__(self, sources: Mapping[str, Leftovers], on_request: Collection[str] = ()) -> None:
        self._sources, self._on_request, self._lock = sources, frozenset(on_request), threading.Lock()

    def collect(self, *, dry_run: bool, older_than: float, only: Sequence[str] = (),
                progress: Progress | None = None) -> dict[str, Any]:
        """Find leftovers and remove them.

        Args:
            dry_run: Only tell.
            older_than: Seconds since the last use that something must have lain there.
            only: Kinds; by default all but those on request.
            progress: Told what is being done.

        Returns:
            `dry_run`, `leftovers` (what, why, bytes, age, `removed`), `bytes` found, `freed`, `errors`.

        Raises:
            Invalid: There is no such kind, or the age is negative.
        """
        for kind in only:
            if kind not in self._sources:
                raise Invalid(f"there is no kind of leftovers {kind!r}", hint=f"There are {', '.join(self._sources)}.")
        if older_than < 0:
            raise Invalid(f"an age of {older_than:g} seconds is not possible")
        say = progress or (lambda _text: None)
        found: list[dict[str, Any]] = []
        errors: list[str] = []
        with self._lock:
            for kind, source in self._sources.items():
                if kind in only or (not only and kind not in self._on_request):
                    say(f"looking for what nothing needs: {kind}")
                    self._collect(kind, source, older_than, dry_run, found, errors)
        return {"dry_run": dry_run, "leftovers": found, "bytes": sum(entry["bytes"] for entry in found),
                "freed": sum(entry["bytes"] for entry in found if entry["removed"]), "errors": errors}

    def _collect(self, kind: str, source: Leftovers, older_than: float, dry_run: bool, found: list[dict[str, Any]],
                 errors: list[str]) -> None:
        try:
            leftovers = source.find(older_than)
        except (FusemlError, PluginError) as error:
            errors.append(f"{kind}: {error.message}")
            return
        except Exception as error:  # what the others find can still go, above all when the disk is full
            log.exception("looking for what nothing needs: %s", kind)
            errors.append(f"{kind}: {error}")
            return
        for leftover in leftovers:
            removed = not dry_run and self._remove(source, leftover, errors)
            entry = asdict(leftover)
            entry.pop("key")
            found.append({**entry, "removed": removed})

    @staticmethod
    def _remove(source: Leftovers, leftover: Leftover, errors: list[str]) -> bool:
        try:
            return source.remove(leftover)
        except (FusemlError, PluginError, OSError) as error:
            errors.append(f"{leftover.kind} {leftover.name}: {error}")
            return False


class QuietCollector:
    """Collects now and then while the server runs.

    Args:
        collector: Does the work.
        interval: Seconds between two runs; 0: never.
        older_than: Seconds, as for :meth:`Collector.collect`.
        first_after: Seconds before the first run.
    """

    def __init__(self, collector: Collector, interval: float, older_than: float,
                 first_after: float = _FIRST_AFTER) -> None:
        self._collector, self._interval, self._older_than = collector, interval, older_than
        self._first_after, self._end = first_after, threading.Event()
        self._thread = threading.Thread(target=self._run, name="fuseml-gc", daemon=True)

    def start(self) -> None:
        """Begin, unless the interval says never."""
        if self._interval > 0:
            self._thread.start()

    def stop(self) -> None:
        """End; a run that is under way is not waited for, because a kill at any moment is harmless."""
        self._end.set()

    def _run(self) -> None:
        pause = self._first_after
        while not self._end.wait(pause):
            pause = self._interval
            try:
                done = self._collector.collect(dry_run=False, older_than=self._older_than)
            except Exception:
                log.exception("collecting what nothing needs")
                continue
            removed = [entry for entry in done["leftovers"] if entry["removed"]]
            if removed or done["errors"]:
                log.info("removed %d things that nothing needs, %d bytes; errors: %s", len(removed), done["freed"],
                         "; ".join(done["errors"]) or "none")
