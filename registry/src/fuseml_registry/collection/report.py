"""What a collection did, or would do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: Things listed one by one in a report; all are counted.
LISTED = 10_000


@dataclass(slots=True)
class Report:
    """What a collection removed.

    Attributes:
        dry_run: Nothing was removed; this is what would be.
        removed: Counts: `manifests`, `blobs` (held by a repository), `referrers` (entries of the list), `contents`
            (bytes on disk), `uploads`.
        freed: Bytes of the contents.
        contents, stored: Contents that stay, and their bytes.
        items: What was removed, by name; the first `LISTED`.
        seconds: Time it took.
    """

    dry_run: bool
    removed: dict[str, int] = field(default_factory=lambda: {
        "manifests": 0, "blobs": 0, "referrers": 0, "contents": 0, "uploads": 0})
    freed: int = 0
    contents: int = 0
    stored: int = 0
    items: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, kind: str, name: str) -> None:
        """Count one thing that is removed."""
        self.removed[kind] += 1
        if len(self.items) < LISTED:
            self.items.append(name)

    def to_json(self) -> dict[str, Any]:
        """Return it as data."""
        return asdict(self)
