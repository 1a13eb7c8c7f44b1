"""Artifacts of every kind: listing, resolving addresses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

from fuseml_core.domain.errors import Invalid, NotFound
from fuseml_core.engine.resolution import resolve
from fuseml_core.service.ports import Ledger
from fuseml_core.service.views import version_view

MAX_LIMIT = 1000


#: Ids that stand for what extensions bring in cursors; those of versions in the database are far below.
_FIRST_ID = 1 << 62


class Extra(Protocol):
    """What is shown like versions of artifacts without being in the database."""

    def list(self) -> list[dict[str, Any]]:
        """All of it, newest first."""
        ...

    def find(self, address: str, project: str) -> dict[str, Any]:
        """What an address means; raises `NotFound`."""
        ...


class Artifacts:
    """Use cases around artifacts.

    Args:
        ledger: Versions of artifacts.
        plugins: Plugins of extensions, which are listed among the runnables of every project.
    """

    def __init__(self, ledger: Ledger, plugins: Extra | None = None) -> None:
        self._ledger, self._plugins = ledger, plugins

    def page(self, *, kind: str = "", project: str = "", name: str = "", type_: str = "", limit: int = 100,
             cursor: str = "") -> dict[str, Any]:
        """Versions, newest first, with a cursor for the next page.

        Raises:
            Invalid: The cursor or the limit cannot be used.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise Invalid(f"the limit is {limit}", hint=f"Give a number from 1 to {MAX_LIMIT}.")
        before = _before(cursor)
        with self._ledger.read() as tx:
            versions = tx.artifacts.page(kind=kind, project=project, name=name, type_=type_, limit=limit + 1,
                                         before=before)
        found = [((v.created_at, v.id), version_view(v)) for v in versions]
        if kind == "runnable" or project == "fuseml":
            extra = [entry for entry in self._extra(name, before) if type_ in ("", entry[1]["type"])]
            found = sorted([*found, *extra], key=lambda entry: entry[0], reverse=True)
        page = found[:limit]
        more = f"{page[-1][0][0]!r}:{page[-1][0][1]}" if len(found) > limit else ""
        return {"items": [view for _, view in page], "cursor": more}

    def resolve(self, address: str, project: str) -> dict[str, Any]:
        """The version that an address means."""
        try:
            with self._ledger.read() as tx:
                return version_view(resolve(tx, address, project))
        except NotFound as missing:
            if self._plugins is None:
                raise
            try:
                return self._plugins.find(address, project)
            except NotFound:
                raise missing from None

    def _extra(self, name: str, before: tuple[float, int] | None) -> Iterator[tuple[tuple[float, int], dict[str, Any]]]:
        """What extensions bring, with the places that it has in the order of versions."""
        every = self._plugins.list() if self._plugins is not None else []
        for number, view in enumerate(every):
            place = (float(view["created_at"]), _FIRST_ID + len(every) - number)
            if (before is None or place < before) and name in ("", view["name"], view["name"].rpartition("/")[2]):
                yield place, view


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
