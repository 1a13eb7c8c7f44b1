"""Opening the database: SQLite in WAL mode by default, PostgreSQL by URL."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from fuseml_core.adapters.sql.values import storable_parameters, to_json
from fuseml_core.domain.errors import Invalid

#: Milliseconds that a writer waits for another one.
BUSY_TIMEOUT = 15_000


def open_database(url: str) -> Engine:
    """Open the database, creating the file of an SQLite one.

    Args:
        url: SQLAlchemy URL, such as `sqlite:////home/u/.fuseml/fuseml.db` or `postgresql+psycopg://…`.

    Raises:
        Invalid: The URL cannot be used.
    """
    # Parameters are hidden in the messages of errors, because the settings of extensions may be secrets.
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Invalid(
            "FUSEML_DATABASE_URL is not a database URL",
            hint="Write for example sqlite:////path/fuseml.db or postgresql+psycopg://user@host/name.",
        ) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
        _keep_private(parsed.database or "")
        engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT / 1000, "check_same_thread": False},
                               hide_parameters=True, json_serializer=to_json)
        event.listen(engine, "before_cursor_execute", _clean, retval=True)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        try:
            engine = create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 10},
                                   hide_parameters=True, json_serializer=to_json)
        except ModuleNotFoundError as error:
            raise Invalid(f"PostgreSQL needs the Python package {error.name}, which is not installed",
                          hint="Install FuseML with its extra `postgresql`, in a clone: uv sync --extra postgresql"
                          ) from None
        event.listen(engine, "before_cursor_execute", _clean, retval=True)
        return engine
    raise Invalid(f"the database {parsed.get_backend_name()!r} is not supported", hint="Use SQLite or PostgreSQL.")


def _keep_private(name: str) -> None:
    """Keep other users out of the file: settings of extensions may be secrets. SQLite's further files get its mode."""
    if name in ("", ":memory:") or name.startswith("file:"):
        return
    with suppress(OSError):  # SQLite says better what is wrong
        Path(name).touch(mode=0o600)
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            Path(name + suffix).chmod(0o600)


def _clean(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_others: Any) -> tuple[str, Any]:
    return statement, storable_parameters(parameters)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling would begin too late for BEGIN IMMEDIATE.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT}"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another writer was faster.
    reads = connection.get_execution_options().get("fuseml_read_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
