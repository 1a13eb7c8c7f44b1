"""Artifacts of every kind: listing, resolving addresses."""

from __future__ import annotations

import math
from typing import Any

from fuseml_core.domain.errors import Invalid
from fuseml_core.engine.resolution import resolve
from fuseml_core.service.ports import Ledger
from fuseml_core.service.views import version_view

MAX_LIMIT = 1000


class Artifacts:
    """Use cases around artifacts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def page(self, *, kind: str = "", project: str = "", name: str = "", limit: int = 100,
             cursor: str = "") -> dict[str, Any]:
        """Versions, newest first, with a cursor for the next page.

        Raises:
            Invalid: The cursor or the limit cannot be used.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise Invalid(f"the limit is {limit}", hint=f"Give a number from 1 to {MAX_LIMIT}.")
        with self._ledger.read() as tx:
            found = tx.artifacts.page(kind=kind, project=project, name=name, limit=limit + 1, before=_before(cursor))
        page = found[:limit]
        more = f"{page[-1].created_at!r}:{page[-1].id}" if len(found) > limit else ""
        return {"items": [version_view(v) for v in page], "cursor": more}

    def resolve(self, address: str, project: str) -> dict[str, Any]:
        """The version that an address means."""
        with self._ledger.read() as tx:
            return version_view(resolve(tx, address, project))


def _before(cursor: str) -> tuple[float, int] | None:
    if not cursor:
        return None
    try:
        created, version = float(cursor.split(":", maxsplit=1)[0]), int(cursor.split(":")[1])
        if not (math.isfinite(created) and 0 < version < 2**63):
            raise ValueError(cursor)
        return created, version
    except (ValueError, IndexError):
        raise Invalid(f"{cursor!r} is not a cursor", hint="Give the one that the previous page ended with.") from None
