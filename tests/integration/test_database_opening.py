"""Opening the database: who may read its files, and what is said when a driver or the server is missing."""

from __future__ import annotations

import stat
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.api.problems import is_database_away
from fuseml_core.domain.errors import Invalid


def test_nobody_else_reads_the_database_wherever_it_lies(tmp_path):
    """Settings of extensions may be secrets; a file of an earlier version is closed, too."""
    tmp_path.chmod(0o755)
    file = tmp_path / "elsewhere.db"
    file.touch(mode=0o644)
    engine = open_database(f"sqlite:///{file}")
    migrate(engine)
    with engine.begin():
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    engine.dispose()
    assert {"elsewhere.db", "elsewhere.db-wal"} <= set(found)
    assert set(found.values()) == {0o600}


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Invalid, match="PostgreSQL needs the Python package psycopg") as caught:
        open_database("postgresql://someone@127.0.0.1/fuseml")
    assert "uv sync --extra postgresql" in caught.value.hint


def test_a_server_that_is_away_is_no_defect(postgresql_url):
    """Refused and cut connections count, mistakes in statements do not."""
    with pytest.raises(DBAPIError) as refused:
        open_database("postgresql://someone@127.0.0.1:1/fuseml").connect()
    engine = open_database(postgresql_url)
    with pytest.raises(DBAPIError) as cut, engine.connect() as connection:
        connection.execute(text("select pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(DBAPIError) as wrong, engine.connect() as connection:
        connection.execute(text("select nothing from nowhere"))
    engine.dispose()
    assert [is_database_away(caught.value) for caught in (refused, cut, wrong)] == [True, True, False]
