"""Small pieces shared by the repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Executable, RowMapping, Table, literal
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

#: Ids that one statement asks for: SQLite takes 32 766 parameters, PostgreSQL 65 535.
MAX_IDS = 10_000


def table_of(model: Any) -> Table:
    """The Core table behind a SQLModel class; hot paths use Core, which costs a third of the ORM."""
    table: Table = model.__table__
    return table


class Repository:
    """Base of the repositories: a connection and the three ways of asking it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _all(self, statement: Executable) -> list[RowMapping]:
        return list(self._connection.execute(statement).mappings())

    def _in_parts(self, ids: Iterable[int], statement: Callable[[list[int]], Executable]) -> list[RowMapping]:
        """Ask for many ids, in parts that a statement has room for."""
        wanted = list(dict.fromkeys(ids))
        parts = (wanted[start:start + MAX_IDS] for start in range(0, len(wanted), MAX_IDS))
        return [row for part in parts for row in self._all(statement(part))]

    def _first(self, statement: Executable) -> RowMapping | None:
        return self._connection.execute(statement).mappings().first()

    def _changed(self, statement: Executable) -> int:
        return int(self._connection.execute(statement).rowcount)

    def _insert(self, table: Table, values: dict[str, Any]) -> int:
        """Insert a row and return its id."""
        result = self._connection.execute(table.insert().values(**values))
        key = result.inserted_primary_key
        return int(key[0]) if key is not None and isinstance(key[0], int) else 0

    def _insert_new(self, table: Table, values: dict[str, Any]) -> bool:
        """Insert a row unless one with the same unique key is there; returns whether it was inserted."""
        make = postgres_insert if self._connection.dialect.name == "postgresql" else sqlite_insert
        # The number of changed rows is not told by every driver; a returned row is.
        statement = make(table).values(**values).on_conflict_do_nothing().returning(literal(1))
        return self._connection.execute(statement).first() is not None

    def _upsert(self, table: Table, values: dict[str, Any], key: list[str]) -> None:
        """Insert a row or replace the values of the one with the same key."""
        make = postgres_insert if self._connection.dialect.name == "postgresql" else sqlite_insert
        statement = make(table).values(**values)
        changed = {name: statement.excluded[name] for name in values if name not in key}
        self._connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed))
