"""The unit of work over SQL: one transaction, with a repository for each aggregate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from fuseml_core.adapters.sql.artifacts import SqlArtifacts
from fuseml_core.adapters.sql.feed import SqlFeed
from fuseml_core.adapters.sql.pipelines import SqlPipelines
from fuseml_core.adapters.sql.projects import SqlProjects
from fuseml_core.adapters.sql.runs import SqlRuns
from fuseml_core.adapters.sql.services import SqlServices
from fuseml_core.adapters.sql.steps import SqlSteps


class SqlTransaction:
    """All repositories over one connection; everything done through it is committed together or not at all."""

    def __init__(self, connection: Connection) -> None:
        self.projects = SqlProjects(connection)
        self.artifacts = SqlArtifacts(connection)
        self.pipelines = SqlPipelines(connection)
        self.runs = SqlRuns(connection)
        self.steps = SqlSteps(connection)
        self.services = SqlServices(connection)
        self.feed = SqlFeed(connection)


class SqlLedger:
    """Opens transactions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self) -> Iterator[SqlTransaction]:
        """A transaction that may write; commits when the block ends, rolls back when it raises."""
        with self._engine.connect() as connection, connection.begin():
            yield SqlTransaction(connection)

    @contextmanager
    def read(self) -> Iterator[SqlTransaction]:
        """A transaction that only reads and never waits for writers."""
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection, connection.begin():
            yield SqlTransaction(connection)
