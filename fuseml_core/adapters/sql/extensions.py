"""Installed extensions and their settings in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Engine, Float, Index, Row, case, delete, insert, select, text, true, update
from sqlmodel import Field, SQLModel

from fuseml_core.adapters.sql.tables import Json
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension

_ACTIVE = text("state = 'active'")


class ExtensionRow(SQLModel, table=True):
    """One version of an extension. Its components, runnables and templates lie in the descriptor."""

    __tablename__ = "extension"
    __table_args__ = (
        Index("uq_extension_active", "name", unique=True, sqlite_where=_ACTIVE, postgresql_where=_ACTIVE),
    )
    digest: str = Field(primary_key=True)
    name: str = Field(index=True)
    version: str
    reference: str
    descriptor: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))
    store: str
    state: str
    installed_at: float = Field(sa_column=Column(Float(53), nullable=False))
    environment: str | None = None
    python: str | None = None
    config: str = ""
    described: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json, nullable=False))


class DisabledRow(SQLModel, table=True):
    """An extension of which nothing is loaded, whichever version is installed, and since when."""

    __tablename__ = "extension_disabled"
    name: str = Field(primary_key=True)
    since: float = Field(sa_column=Column(Float(53), nullable=False))


class ExtensionSettingRow(SQLModel, table=True):
    """One setting of an extension, whichever version is installed. May be a secret: it is written nowhere else."""

    __tablename__ = "extension_setting"
    extension: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: Any = Field(sa_column=Column(Json, nullable=False))


_TABLE = SQLModel.metadata.tables["extension"]
_SETTINGS = SQLModel.metadata.tables["extension_setting"]
_DISABLED = SQLModel.metadata.tables["extension_disabled"]


class SqlExtensions:
    """Rows of installed extensions; implements the port `InstalledExtensions`.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self) -> Sequence[InstalledExtension]:
        """The active extensions by name."""
        return self._select(_TABLE.c.state == ExtensionState.ACTIVE.value)

    def get(self, name: str) -> InstalledExtension | None:
        """The active version of an extension."""
        found = self._select((_TABLE.c.name == name) & (_TABLE.c.state == ExtensionState.ACTIVE.value))
        return found[0] if found else None

    def by_digest(self, digest: str) -> InstalledExtension | None:
        """One version, active or retired."""
        found = self._select(_TABLE.c.digest == digest)
        return found[0] if found else None

    def versions(self, name: str) -> Sequence[InstalledExtension]:
        """All versions of an extension that are still there, the active one first."""
        return self._select(_TABLE.c.name == name)

    def all(self) -> Sequence[InstalledExtension]:
        """Every version of every extension, by name, the active one first."""
        return self._select(true())

    def remove(self, digest: str) -> None:
        """Forget a version that is not active."""
        with self._engine.begin() as connection:
            connection.execute(delete(_TABLE).where(
                _TABLE.c.digest == digest, _TABLE.c.state != ExtensionState.ACTIVE.value))

    def describe(self, digest: str, described: Mapping[str, Any]) -> None:
        """Write down what the components of a version say about themselves."""
        with self._engine.begin() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.digest == digest).values(described=dict(described)))

    def _select(self, condition: Any) -> Sequence[InstalledExtension]:
        active_first = case((_TABLE.c.state == ExtensionState.ACTIVE.value, 0), else_=1)
        query = select(_TABLE).where(condition).order_by(_TABLE.c.name, active_first, _TABLE.c.installed_at.desc())
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return [_record(row) for row in connection.execute(query)]


class SqlDisabled:
    """Names of disabled extensions; implements the port `DisabledExtensions`.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> dict[str, float]:
        """Since when each is disabled, in seconds since the epoch."""
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return {row.name: row.since for row in connection.execute(select(_DISABLED))}

    def add(self, name: str, now: float) -> bool:
        """Disable one; returns False if it was already."""
        with self._engine.begin() as connection:
            if connection.execute(select(_DISABLED).where(_DISABLED.c.name == name)).first():
                return False
            connection.execute(insert(_DISABLED).values(name=name, since=now))
            return True

    def remove(self, names: Collection[str]) -> None:
        """Enable some; those that are enabled are passed over."""
        with self._engine.begin() as connection:
            connection.execute(delete(_DISABLED).where(_DISABLED.c.name.in_(names)))


class SqlExtensionSettings:
    """Settings of extensions by name; implements the port `StoredSettings`.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, extension: str) -> dict[str, Any]:
        """All settings of an extension."""
        query = select(_SETTINGS.c.key, _SETTINGS.c.value).where(_SETTINGS.c.extension == extension)
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return {row.key: row.value for row in connection.execute(query.order_by(_SETTINGS.c.key))}

    def change(self, extension: str, values: Mapping[str, Any], unset: Collection[str]) -> None:
        """Set and unset settings in one transaction."""
        mine = _SETTINGS.c.extension == extension
        with self._engine.begin() as connection:
            connection.execute(delete(_SETTINGS).where(mine, _SETTINGS.c.key.in_([*values, *unset])))
            for key, value in values.items():
                connection.execute(insert(_SETTINGS).values(extension=extension, key=key, value=value))

    def forget(self, extension: str) -> None:
        """Remove all settings of an extension."""
        with self._engine.begin() as connection:
            connection.execute(delete(_SETTINGS).where(_SETTINGS.c.extension == extension))


def _record(row: Row[Any]) -> InstalledExtension:
    values = dict(row._mapping)
    return InstalledExtension(**{**values, "state": ExtensionState(values["state"])})
