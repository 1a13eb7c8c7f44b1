"""Cells that tables of several nouns share: times, durations, names with values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def moment(value: Any) -> str:
    """A point in time of the API (ISO 8601 text or seconds since 1970) in local time; empty if there is none."""
    parsed = _parsed(value)
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M:%S") if parsed else ""


def duration(item: Mapping[str, Any]) -> str:
    """How long something with `started_at` and `ended_at` took, or takes by now."""
    started, ended = _parsed(item.get("started_at")), _parsed(item.get("ended_at"))
    if started is None:
        return ""
    return span(((ended or datetime.now(UTC)) - started).total_seconds())


def span(seconds: float) -> str:
    """A length of time such as `0.3 s`, `4 min 2 s` or `3 h 5 min`."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int | None) -> str:
    """A number of bytes such as `12 B` or `3.4 MiB`; empty if unknown."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def bindings(items: Any) -> list[str]:
    """Inputs or outputs as `name: value` lines, in short form, defaulted ones marked `(default)` (R183, R185)."""
    lines = []
    for item in items or []:
        value = item["value"] if item.get("short") in (None, "") and "value" in item else item.get("short")
        shown = item.get("address", "") if value is None else value
        shown = "''" if shown == "" else shown
        lines.append(f"{item.get('name', '')}: {shown}{' (default)' if item.get('default') else ''}")
    return lines


def _parsed(value: Any) -> datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str) or not value:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
