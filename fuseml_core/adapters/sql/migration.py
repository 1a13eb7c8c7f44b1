"""Bringing a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine


def migrate(engine: Engine) -> None:
    """Run all migrations that the database has not seen yet; does nothing when there is none."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def pending(engine: Engine) -> list[str]:
    """Names of the migrations that the database has not seen yet."""
    folder = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return [script.revision for script in folder.iterate_revisions("head", current or "base")]
