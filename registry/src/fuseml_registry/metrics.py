"""Metrics in the text format of Prometheus."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from fuseml_registry.exchange import Exchange

#: Content type of the text.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0)
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"})


class Metrics:
    """What a registry counts.

    Args:
        root: Its directory, for the room on the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._registry = registry = CollectorRegistry()

        def name(text: str) -> str:
            return f"fuseml_registry_{text}"

        self._requests = Counter(name("requests"), "Requests answered.", ["method", "route", "status"],
                                 registry=registry)
        self._seconds = Histogram(name("request_seconds"), "Time of requests.", ["route"], buckets=_BUCKETS,
                                  registry=registry)
        self._received = Counter(name("received_bytes"), "Bytes of request bodies.", registry=registry)
        self._sent = Counter(name("sent_bytes"), "Bytes of answers' bodies.", registry=registry)
        self._active = Gauge(name("active_requests"), "Requests being answered.", registry=registry)
        self._uploads = Gauge(name("upload_sessions"), "Unfinished uploads.", registry=registry)
        self._lost = Gauge(name("audit_lost_records"), "Audit records that could not be written.", registry=registry)
        self._free = Gauge(name("disk_free_bytes"), "Room on the disk.", registry=registry)
        self._collections = Counter(name("collections"), "Garbage collections.", ["result"], registry=registry)
        self._collected = Counter(name("collected"), "What collections removed.", ["kind"], registry=registry)
        self._freed = Counter(name("collected_bytes"), "Bytes that collections freed.", registry=registry)
        self._last = Gauge(name("last_collection_timestamp_seconds"), "Unix time of the last good collection.",
                           registry=registry)
        self._contents = Gauge(name("contents"), "Contents stored, at the last collection.", registry=registry)
        self._stored = Gauge(name("stored_bytes"), "Bytes stored, at the last collection.", registry=registry)

    def began(self) -> None:
        """Count a request that came."""
        self._active.inc()

    def ended(self, exchange: Exchange) -> None:
        """Count a request that was answered; status 499 when the client went away."""
        method = exchange.scope["method"]
        self._active.dec()
        self._requests.labels(method if method in _METHODS else "other", exchange.noun,
                              str(exchange.status or 499)).inc()
        self._seconds.labels(exchange.noun).observe(exchange.seconds)
        self._received.inc(exchange.received)
        self._sent.inc(exchange.sent)

    def collected(self, removed: dict[str, int], freed: int, contents: int, stored: int) -> None:
        """Count a garbage collection that ended well."""
        self._collections.labels("succeeded").inc()
        for kind, count in removed.items():
            self._collected.labels(kind).inc(count)
        self._freed.inc(freed)
        self._last.set(time.time())
        self._contents.set(contents)
        self._stored.set(stored)

    def collection_failed(self) -> None:
        """Count a garbage collection that ended with an error."""
        self._collections.labels("failed").inc()

    def text(self, uploads: int, lost: int) -> bytes:
        """Return everything as text.

        Args:
            uploads: Unfinished uploads now.
            lost: Audit records that could not be written.
        """
        self._uploads.set(uploads)
        self._lost.set(lost)
        room = os.statvfs(self._root)
        self._free.set(room.f_bavail * room.f_frsize)
        return generate_latest(self._registry)
