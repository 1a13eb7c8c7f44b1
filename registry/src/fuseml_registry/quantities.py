"""Durations and sizes as people write them: `24h`, `90 s`, `64 MiB`."""

from __future__ import annotations

import re

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
          "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
          "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]*)")


def seconds(text: str | float) -> float:
    """Read a duration in seconds, or with the unit s, m, h or d.

    Raises:
        ValueError: It is none.
    """
    return _quantity(text, _SECONDS, "a duration such as 90s, 15m, 24h or 30d")


def size(text: str | float) -> int:
    """Read a number of bytes, or with a unit such as MiB or GB.

    Raises:
        ValueError: It is none.
    """
    return int(_quantity(text, _BYTES, "a size such as 64MiB or 2GB"))


def _quantity(text: str | float, units: dict[str, int], wanted: str) -> float:
    match = _QUANTITY.fullmatch(str(text).strip())
    if not match or match[2].lower() not in units:
        raise ValueError(f"{str(text)[:40]!r} is not {wanted}")
    return float(match[1]) * units[match[2].lower()]
