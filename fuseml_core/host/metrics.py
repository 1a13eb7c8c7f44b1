"""Rate, errors and duration of hook calls, by component and hook, without a line of the plugin's author."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from fuseml_core.host.components import Component

if TYPE_CHECKING:
    from prometheus_client.core import Metric

#: Upper bounds of the buckets of durations, in seconds: half a decade each, from 20 µs to an hour.
BOUNDS = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
          10.0, 60.0, 600.0, 3600.0)


@dataclass(frozen=True)
class HookStatistics:
    """What is known of the calls of one hook of one component since it was added.

    Attributes:
        component: Id of the component.
        extension: Name of the extension.
        version: Version of the extension.
        hook: Name of the hook.
        calls: Calls that ended.
        errors: How many ended with which class of error.
        in_flight: Calls that are being served or wait for a place.
        seconds: Time of all calls together.
        p50, p95, p99: Seconds within which so many percent of the calls ended: estimated, and never more than the
            longest call took.
    """

    component: str
    extension: str
    version: str
    hook: str
    calls: int
    errors: dict[str, int]
    in_flight: int
    seconds: float
    p50: float
    p95: float
    p99: float


@dataclass(slots=True)
class Series:
    """The calls of one hook of one component.

    Attributes:
        component: The component.
        hook: Name of the hook.
        active: Calls that are being served or wait for a place; not those that are over in a moment.
        seconds: Time of all calls that ended.
        longest: Time of the longest of them.
        errors: How many ended with which class of error.
        buckets: How many ended within each of :data:`BOUNDS`, and beyond.
        pending: Seconds of calls that ended and are not in the buckets yet: adding them up can wait, the callers not.
    """

    component: Component
    hook: str
    active: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    pending: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def began(self) -> None:
        """Count a call that came."""
        with self._lock:
            self.active += 1

    def ended(self, seconds: float, error: str = "") -> None:
        """Count the end of a call that was counted when it came; see :meth:`add`."""
        with self._lock:
            self.active -= 1
        self.add(seconds, error)

    def add(self, seconds: float, error: str = "") -> None:
        """Count a call.

        Args:
            seconds: How long it took, waiting for its place included.
            error: Class of the error; empty if it went well.
        """
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            self.buckets[bucket] += 1
            if error:
                self.errors[error] = self.errors.get(error, 0) + 1

    def note(self, error: str) -> None:
        """Count an error alone."""
        with self._lock:
            self.errors[error] = self.errors.get(error, 0) + 1

    def fold(self) -> None:
        """Add up what is pending."""
        with self._lock:
            while self.pending:
                seconds = self.pending.popleft()
                self.seconds += seconds
                self.longest = max(self.longest, seconds)
                self.buckets[bisect_left(BOUNDS, seconds)] += 1

    @property
    def calls(self) -> int:
        """Calls that ended."""
        return sum(self.buckets)


class Metrics:
    """Counts calls; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str, str], Series] = {}

    def of(self, component: Component, hook: str) -> Series:
        """The series of a hook; calls are counted there."""
        key = (component.id, component.version, hook)
        found = self._series.get(key)
        if found is None:
            with self._lock:
                found = self._series.setdefault(key, Series(component, hook))
        return found

    def fold(self) -> None:
        """Add up what is pending anywhere."""
        with self._lock:
            self._fold()

    def calls(self, identifier: str) -> int:
        """Calls of a component that ended."""
        with self._lock:
            self._fold()
            return sum(each.calls for key, each in self._series.items() if key[0] == identifier)

    def _fold(self) -> None:
        for each in self._series.values():
            each.fold()

    def forget(self, identifier: str, keep: str = "") -> None:
        """Drop the series of a component, except of the version `keep`."""
        with self._lock:
            for key in [key for key in self._series if key[0] == identifier and key[1] != keep]:
                del self._series[key]

    def statistics(self, identifier: str | None = None) -> list[HookStatistics]:
        """One record for each hook that was called, by component and hook."""
        with self._lock:
            self._fold()
            return [_statistics(each) for key, each in sorted(self._series.items()) if identifier in (None, key[0])]

    def text(self) -> str:
        """Everything in the text format of Prometheus."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)  # a collector is what has `collect`
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """The families of metrics, as `prometheus_client` wants them of a collector."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labels = ("extension", "version", "component", "hook")
        total = CounterMetricFamily("fuseml_plugin_calls", "Hook calls that ended.", labels=labels)
        errors = CounterMetricFamily("fuseml_plugin_errors", "Hook calls that ended with an error, by its class.",
                                     labels=(*labels, "error"))
        active = GaugeMetricFamily("fuseml_plugin_calls_in_flight", "Hook calls being served or waiting for a place.",
                                   labels=labels)
        times = HistogramMetricFamily("fuseml_plugin_call_seconds", "Duration of hook calls, waiting included.",
                                      labels=labels)
        with self._lock:
            self._fold()
            for _, each in sorted(self._series.items()):
                of = (each.component.extension, each.component.version, each.component.id, each.hook)
                total.add_metric(of, each.calls)
                active.add_metric(of, each.active)
                times.add_metric(of, _buckets(each), each.seconds)
                for error, count in sorted(each.errors.items()):
                    errors.add_metric((*of, error), count)
        yield from (total, errors, active, times)


def _buckets(each: Series) -> Sequence[tuple[str, float]]:
    totals = accumulate(each.buckets)
    return [(repr(bound), next(totals)) for bound in BOUNDS] + [("+Inf", each.calls)]


def _statistics(each: Series) -> HookStatistics:
    p50, p95, p99 = (_percentile(each, share) for share in (0.5, 0.95, 0.99))
    return HookStatistics(each.component.id, each.component.extension, each.component.version, each.hook, each.calls,
                          dict(each.errors), each.active, each.seconds, p50, p95, p99)


def _percentile(each: Series, share: float) -> float:
    """Interpolated within the bucket, as Prometheus does, as far as the longest call."""
    wanted, below = share * each.calls, 0
    for number, count in enumerate(each.buckets):
        if count and below + count >= wanted:
            low = BOUNDS[number - 1] if number else 0.0
            high = BOUNDS[number] if number < len(BOUNDS) else BOUNDS[-1]
            return min(low + (high - low) * (wanted - below) / count, each.longest)
        below += count
    return 0.0
