"""The feed of a change and event cursors in SQL."""

from __future__ import annotations

from sqlalchemy import func, select

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import CursorRow, FeedRow
from fuseml_core.domain.records import FeedItem

#: First key of the advisory locks under which lines are added, one for each change.
_FEED = 0x66656564
_feed, _cursors = table_of(FeedRow), table_of(CursorRow)


class SqlFeed(Repository):
    """What happened, in order; and how far event sources have been read."""

    def add(
        self, change: str, kind: str, text: str, *, now: float, run: str = "", step: str = "", state: str = ""
    ) -> None:
        """Append one line; lines of a change become visible in the order of their numbers (G6)."""
        # PostgreSQL gives numbers before it commits: who has read up to 11 would never see a 10 that commits later.
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(select(func.pg_advisory_xact_lock(_FEED, func.hashtext(change))))
        self._insert(
            _feed, {"change": change, "at": now, "kind": kind, "run": run, "step": step, "state": state, "text": text}
        )

    def after(self, change: str, seq: int, limit: int = 500) -> list[FeedItem]:
        """Lines of a change after a sequence number."""
        rows = self._all(
            select(_feed).where(_feed.c.change == change, _feed.c.id > seq).order_by(_feed.c.id).limit(limit)
        )
        return [
            FeedItem(r["id"], r["at"], r["change"], r["kind"], r["run"], r["step"], r["state"], r["text"])
            for r in rows
        ]

    def cursor(self, source: str) -> str:
        """The stored cursor of an event source, or empty."""
        row = self._first(select(_cursors.c.cursor).where(_cursors.c.source == source))
        return str(row["cursor"]) if row else ""

    def set_cursor(self, source: str, cursor: str) -> None:
        """Store the cursor of an event source."""
        self._upsert(_cursors, {"source": source, "cursor": cursor}, ["source"])
