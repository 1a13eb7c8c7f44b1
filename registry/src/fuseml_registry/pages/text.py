"""Text of unknown origin made fit to be read, and numbers as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: Controls (tab and line feed excepted), and what reorders or hides text: UAX 9 marks, embeddings, overrides and
#: isolates, zero-width characters, tags, interlinear annotations. Surrogates cannot be encoded at all.
_HIDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
                     "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def visible(text: str) -> str:
    """Replace characters that cannot be seen, or change how others are seen, by U+FFFD."""
    return _HIDING.sub("\ufffd", text)


def shortened(text: str, limit: int) -> str:
    """Cut a text to at most `limit` characters, with an ellipsis."""
    return text if len(text) <= limit else f"{text[:limit - 1].rstrip()}…"


def size_text(size: int) -> str:
    """Write a number of bytes with three digits at most: `12.3 MiB`."""
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.{0 if value >= 99.95 else 1}f} {_UNITS[unit]}"


def paragraphs(text: str) -> list[str]:
    """Split a text at empty lines; other line ends are those of the source, not of the text."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def moment_text(seconds: float) -> str:
    """Write a time since the epoch in UTC as RFC 3339 has it; empty for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


def day_text(moment: str) -> str:
    """Write the day of an RFC 3339 time: `23 November 2026`."""
    try:
        day = datetime.strptime(moment[:10], "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return moment
    return f"{day.day} {day:%B %Y}"


def short_digest(digest: str) -> str:
    """Write the beginning of a digest: `sha256:0a1b2c3d4e5f`."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}"
