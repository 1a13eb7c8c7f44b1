"""What a registry does between requests: collect garbage, forget old uploads, do what commands ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any

from starlette.types import Receive, Send

from fuseml_registry.audit import AuditLog
from fuseml_registry.collection.ownership import Ownership, answer_requests
from fuseml_registry.collection.report import Report
from fuseml_registry.collection.sweep import Collector
from fuseml_registry.configuration import Collection, Configuration
from fuseml_registry.metrics import Metrics
from fuseml_registry.uploads import Uploads

log = logging.getLogger(__name__)
#: Seconds between looks for requests of commands, and for what is due.
POLL, DUE = 0.5, 30.0
#: Seconds to wait at the start for the process that served the registry before.
PREDECESSOR = 20.0


class Keeper:
    """Runs beside the requests of one registry, for as long as its server lives.

    Args:
        config: Of the registry.
        collector: Removes garbage.
        uploads: Whose sessions expire.
        metrics: Counts collections.
        audit: Told of collections.
    """

    def __init__(self, config: Configuration, collector: Collector, uploads: Uploads, metrics: Metrics,
                 audit: AuditLog) -> None:
        self._config, self._collector, self._uploads = config, collector, uploads
        self._metrics, self._audit = metrics, audit
        self._ownership = Ownership(config.root)
        self._done = config.root / "collected"
        self._one = threading.Lock()
        #: False while another process may still write to the registry.
        self.ready = True

    async def live(self, receive: Receive, send: Send) -> None:
        """Live through the server's life span."""
        await receive()
        self.ready = False
        if not await asyncio.to_thread(self._ownership.take, PREDECESSOR):
            await send({"type": "lifespan.startup.failed", "message":
                        f"process {self._ownership.holder()} works on {self._config.root} already; stop it first"})
            return
        self.ready = True
        task = asyncio.create_task(self._keep())
        try:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._audit.close()
            self._ownership.release()
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep(self) -> None:
        """Look around again and again; no error ends it."""
        due = time.monotonic()
        while True:
            try:
                await asyncio.to_thread(answer_requests, self._config.root, self._requested)
                if time.monotonic() >= due:
                    due = time.monotonic() + self._pause()
                    await asyncio.to_thread(self._uploads.sweep)
                    if self._is_due() and not self._config.read_only:
                        await asyncio.to_thread(self.collect)
            except Exception:
                log.exception("the registry's housekeeping failed; it is tried again")
                due = time.monotonic() + DUE
            await asyncio.sleep(POLL)

    def collect(self, *, dry_run: bool = False, policy: Collection | None = None, by: str = "schedule") -> Report:
        """Collect garbage now, and record it."""
        with self._one:
            try:
                report = self._collector.collect(dry_run=dry_run, policy=policy)
            except Exception:
                self._metrics.collection_failed()
                raise
            if not dry_run:
                self._done.write_text("")
                self._metrics.collected(report.removed, report.freed, report.contents, report.stored)
                self._audit.write({"action": "collect-garbage", "by": by, "removed": report.removed,
                                   "freed": report.freed, "milliseconds": round(report.seconds * 1000)})
            log.info("collected garbage: %s, %d bytes freed%s", report.removed, report.freed,
                     " (dry run)" if dry_run else "")
            return report

    def _requested(self, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("work") != "collect":
            raise ValueError(f"there is no work {request.get('work')!r}")
        policy = Collection(**{**self._config.collection.model_dump(), **request.get("policy", {})})
        return self.collect(dry_run=bool(request.get("dry_run")), policy=policy, by="command").to_json()

    def _pause(self) -> float:
        """Seconds until the next look for what is due."""
        return min(DUE, self._config.upload_expiry / 2, self._config.collection.interval or DUE)

    def _is_due(self) -> bool:
        if not self._config.collection.interval:
            return False
        try:
            return time.time() - self._done.stat().st_mtime >= self._config.collection.interval
        except FileNotFoundError:
            self._done.write_text("")  # an empty registry has nothing to collect
            return False
