"""Rate, errors and duration of hook calls, by component and hook, without a line of the plugin's author."""

from __future__ import annotations

import threading
from bisect import bisect_left
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
        p50, p95, p99: Seconds within which so many percent of the calls ended; estimated within a factor of 2.5.
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
class _Series:
    component: Component
    hook: str
    begun: int = 0
    ended: int = 0
    seconds: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class Metrics:
    """Counts calls; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[tuple[str, str, str], _Series] = {}

    def of(self, component: Component, hook: str) -> _Series:
        """The series of a hook, to be given to :meth:`began` and :meth:`ended`."""
        key = (component.id, component.version, hook)
        found = self._series.get(key)
        if found is None:
            with self._lock:
                found = self._series.setdefault(key, _Series(component, hook))
        return found

    def began(self, series: _Series) -> None:
        """Count a call that came."""
        with self._lock:
            series.begun += 1

    def ended(self, series: _Series, seconds: float, error: str = "") -> None:
        """Count a call that ended.

        Args:
            series: Where it counts.
            seconds: How long it took, waiting for its place included.
            error: Class of the error; empty if it went well.
        """
        with self._lock:
            series.ended += 1
            series.seconds += seconds
            series.buckets[bisect_left(BOUNDS, seconds)] += 1
            if error:
                series.errors[error] = series.errors.get(error, 0) + 1

    def forget(self, identifier: str, keep: str = "") -> None:
        """Drop the series of a component, except of the version `keep`."""
        with self._lock:
            for key in [key for key in self._series if key[0] == identifier and key[1] != keep]:
                del self._series[key]

    def statistics(self, identifier: str | None = None) -> list[HookStatistics]:
        """One record for each hook that was called, by component and hook."""
        with self._lock:
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
            for _, each in sorted(self._series.items()):
                of = (each.component.extension, each.component.version, each.component.id, each.hook)
                total.add_metric(of, each.ended)
                active.add_metric(of, max(0, each.begun - each.ended))
                times.add_metric(of, _buckets(each), each.seconds)
                for error, count in sorted(each.errors.items()):
                    errors.add_metric((*of, error), count)
        yield from (total, errors, active, times)


def _buckets(each: _Series) -> Sequence[tuple[str, float]]:
    totals = accumulate(each.buckets)
    return [(repr(bound), next(totals)) for bound in BOUNDS] + [("+Inf", each.ended)]


def _statistics(each: _Series) -> HookStatistics:
    p50, p95, p99 = (_percentile(each, share) for share in (0.5, 0.95, 0.99))
    return HookStatistics(each.component.id, each.component.extension, each.component.version, each.hook, each.ended,
                          dict(each.errors), max(0, each.begun - each.ended), each.seconds, p50, p95, p99)


def _percentile(each: _Series, share: float) -> float:
    """Interpolated within the bucket, as Prometheus does."""
    wanted, below = share * each.ended, 0
    for number, count in enumerate(each.buckets):
        if count and below + count >= wanted:
            low = BOUNDS[number - 1] if number else 0.0
            high = BOUNDS[number] if number < len(BOUNDS) else BOUNDS[-1]
            return low + (high - low) * (wanted - below) / count
        below += count
    return 0.0
