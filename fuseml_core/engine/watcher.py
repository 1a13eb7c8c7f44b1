"""Listening to stores: versions that appear without FuseML being told, such as by a plain `git push`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from fuseml_core.domain.errors import FusemlError, Unavailable
from fuseml_core.engine.rhythm import Rhythm
from fuseml_core.service.components import Components, Store
from fuseml_core.service.ports import Ledger
from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.types import StoreEvent

log = structlog.get_logger(__name__)

EVENTS_WAIT = 20.0
#: Seconds between two looks for stores that were installed.
LOOK_EVERY = 2.0


class StoreWatcher:
    """One thread for each store that has events; each event is handled before its cursor is stored.

    Stores come and go while the server runs, with the extensions that bring them.
    """

    def __init__(self, ledger: Ledger, components: Components, handle: Callable[[StoreEvent], None]) -> None:
        self._ledger = ledger
        self._components = components
        self._handle = handle
        self._stop = threading.Event()
        self._heard: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Begin to listen to the stores that are there, and to those that come."""
        self._look()
        threading.Thread(target=self._look_out, name="stores", daemon=True).start()

    def stop(self) -> None:
        """Stop listening; what happens meanwhile is found at the next start."""
        self._stop.set()

    def _look_out(self) -> None:
        while not self._stop.wait(LOOK_EVERY):
            try:
                self._look()
            except Exception:
                log.exception("looking for stores that have events")

    def _look(self) -> None:
        for name, store in self._components.watched():
            thread = self._heard.get(name)
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._listen, args=(name, store), name=f"store-{name}", daemon=True)
                self._heard[name] = thread
                thread.start()

    def _listen(self, name: str, store: Store) -> None:
        source, pause, rhythm = f"store/{name}", 1.0, Rhythm(store)
        with self._ledger.read() as tx:
            cursor = tx.feed.cursor(source)
        while not self._stop.is_set():
            try:
                rhythm.begin()
                events = store.events(cursor, EVENTS_WAIT)
                pause = 1.0
            except (FusemlError, PluginError) as error:
                gone = isinstance(error, Unavailable) or name not in dict(self._components.watched())
                if self._stop.is_set() or gone:
                    return  # it is gone; when it comes back, it is found by looking
                log.warning("store gives no events", store=name, error=str(error))
                if isinstance(error, InvalidInput):
                    cursor = ""  # It does not know this cursor any more: what was handled before changes nothing.
                self._stop.wait(pause)
                pause = min(pause * 2, 30.0)
                continue
            for event in events.events:
                self._one(name, event)
            news = events.cursor != cursor
            if news:
                cursor = events.cursor
                with self._ledger.begin() as tx:
                    tx.feed.set_cursor(source, cursor)
            self._stop.wait(rhythm.pause(news=news))

    def _one(self, name: str, event: StoreEvent) -> None:
        try:
            self._handle(event)
        except (FusemlError, PluginError) as error:
            log.warning(
                "store event was not handled",
                store=name,
                kind=event.kind,
                artifact=f"{event.project}/{event.name}",
                error=str(error),
            )
        except Exception:
            log.exception("store event was not handled", store=name)
