"""One change of the extensions at a time, also when several servers share a PostgreSQL database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Engine, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from fuseml_core.adapters.sql.generations import CHANGE, WorkRow
from fuseml_core.adapters.sql.rows import table_of
from fuseml_core.domain.errors import Unavailable
from fuseml_core.service.extensions.ports import Progress

#: Key of the advisory lock that a server holds while it changes the extensions.
_KEY = 0x65787463
#: Seconds between two attempts.
_PAUSE = 0.1
_WORK = table_of(WorkRow)


class SqlChangeLock:
    """Implements the port `ChangeLock`. The lock ends with the process that holds it; what it did stays readable.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self._local = engine, threading.Lock()

    @contextmanager
    def alone(self, what: str, patience: float, say: Progress) -> Iterator[None]:
        """Hold the lock; tells `say` what is waited for.

        Args:
            what: The change, such as `install mlflow`.
            patience: Seconds to wait for others.
            say: Takes one line of progress.

        Raises:
            Unavailable: Others took longer.
        """
        deadline, told = time.monotonic() + patience, False
        while not self._local.acquire(timeout=_PAUSE):
            told = self._wait(deadline, say, told)
        try:
            with self._shared(deadline, say, told):
                self._write(what)
                try:
                    yield
                finally:
                    self._write("")
        finally:
            self._local.release()

    def running(self) -> str:
        """What is being changed now, or was when its server died; empty when nothing is."""
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return str(connection.execute(select(_WORK.c.text).where(_WORK.c.kind == CHANGE)).scalar() or "")

    def interrupted(self) -> str:
        """What a server that died was changing; empty when nothing was. Forgets it."""
        what = ""
        with suppress(Unavailable), self.alone("", 0.0, lambda _text: None):
            what = self._interrupted
        return what

    _interrupted = ""

    @contextmanager
    def _shared(self, deadline: float, say: Progress, told: bool) -> Iterator[None]:
        """The part of the lock that other servers see. SQLite has one server: it holds a lock on its folder."""
        if self._engine.dialect.name != "postgresql":
            yield
            return
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not connection.execute(select(func.pg_try_advisory_lock(_KEY))).scalar():
                told = self._wait(deadline, say, told)
                time.sleep(_PAUSE)
            try:
                yield
            finally:
                with suppress(SQLAlchemyError):  # a connection that was cut holds no lock any more
                    connection.execute(select(func.pg_advisory_unlock(_KEY)))

    def _wait(self, deadline: float, say: Progress, told: bool) -> bool:
        if not told:
            say(f"waiting for: {self.running() or 'another change of the extensions'}")
        if time.monotonic() > deadline:
            raise Unavailable(f"another change of the extensions takes very long: {self.running() or 'unknown'}",
                              hint="See: fuseml extension history, fuseml server logs")
        return True

    def _write(self, what: str) -> None:
        with self._engine.begin() as connection:
            self._interrupted = str(connection.execute(select(_WORK.c.text).where(_WORK.c.kind == CHANGE)).scalar()
                                    or "")
            connection.execute(delete(_WORK).where(_WORK.c.kind == CHANGE))
            if what:
                connection.execute(insert(_WORK).values(kind=CHANGE, text=what, since=time.time()))
