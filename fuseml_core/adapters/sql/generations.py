"""Generations of extensions in the database: the switch from one to the next is one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Integer,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlmodel import Field, SQLModel

from fuseml_core.adapters.sql.extensions import ExtensionRow, ExtensionSettingRow
from fuseml_core.adapters.sql.rows import table_of
from fuseml_core.adapters.sql.tables import Json
from fuseml_core.domain.errors import Conflict
from fuseml_core.domain.extensions import (
    ExtensionState,
    Generation,
    GenerationState,
    InstalledExtension,
    Member,
    TrustDecision,
)
from fuseml_core.service.extensions.ports import Switch


class GenerationRow(SQLModel, table=True):
    """A set of extensions that were active together."""

    __tablename__ = "extension_generation"
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    cause: str = Field(sa_column=Column(Text, nullable=False))
    created_at: float = Field(sa_column=Column(Float(53), nullable=False))
    state: str
    note: str = Field(sa_column=Column(Text, nullable=False))


class MemberRow(SQLModel, table=True):
    """One extension of a generation."""

    __tablename__ = "extension_member"
    generation: int = Field(sa_column=Column(
        ForeignKey("extension_generation.number", ondelete="CASCADE"), primary_key=True))
    name: str = Field(primary_key=True)
    version: str
    digest: str
    reference: str
    requested: bool
    trust: dict[str, Any] = Field(sa_column=Column(Json, nullable=False))
    channel: str = ""


class WorkRow(SQLModel, table=True):
    """What is being done or still to be done: `change` is the change that runs now, others follow a switch.

    `registry` is where the embedded registry was at the last start.
    """

    __tablename__ = "extension_work"
    kind: str = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    since: float = Field(sa_column=Column(Float(53), nullable=False))


_GENERATIONS, _MEMBERS, _WORK = table_of(GenerationRow), table_of(MemberRow), table_of(WorkRow)
_EXTENSIONS, _SETTINGS = table_of(ExtensionRow), table_of(ExtensionSettingRow)


class SqlGenerations:
    """Rows of generations; implements the port `Generations`.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self) -> Generation:
        """The one in force; number 0, without members, before anything was installed."""
        found = self._select(limit=1)
        return found[0] if found else Generation(0, "nothing was installed yet", 0.0, ())

    def list(self) -> Sequence[Generation]:
        """All that are kept, the newest first."""
        return self._select()

    def get(self, number: int) -> Generation | None:
        """One by its number, if it is kept."""
        found = self._select(number=number)
        return found[0] if found else None

    def switch(self, change: Switch) -> Generation:
        """Make a new generation and put it in force, with everything that belongs to it, in one transaction."""
        now = time.time()
        with self._engine.begin() as connection:
            number = _next_number(connection, change.base)
            made = Generation(number, change.cause, now, tuple(sorted(change.members, key=lambda m: m.name)),
                              GenerationState.NEW if change.watched else GenerationState.SETTLED, change.note)
            connection.execute(update(_GENERATIONS).where(_GENERATIONS.c.state == GenerationState.NEW.value).values(
                state=GenerationState.SETTLED.value))
            if change.failed:
                connection.execute(update(_GENERATIONS).where(_GENERATIONS.c.number == change.failed).values(
                    state=GenerationState.FAILED.value, note=change.note))
            _activate(connection, change.records, {member.digest for member in made.members})
            _insert(connection, made)
            _change_settings(connection, change.settings, change.forget)
            for kind in change.work:
                connection.execute(delete(_WORK).where(_WORK.c.kind == kind))
                connection.execute(insert(_WORK).values(kind=kind, text=change.cause, since=now))
        return made

    def settle(self, number: int) -> None:
        """The components of a new generation stayed up."""
        with self._engine.begin() as connection:
            connection.execute(update(_GENERATIONS).where(
                _GENERATIONS.c.number == number, _GENERATIONS.c.state == GenerationState.NEW.value).values(
                state=GenerationState.SETTLED.value))

    def forget(self, numbers: Collection[int]) -> None:
        """Drop generations; the one in force stays whatever is said."""
        with self._engine.begin() as connection:
            newest = connection.execute(select(func.max(_GENERATIONS.c.number))).scalar()
            gone = [number for number in numbers if number != newest]
            connection.execute(delete(_MEMBERS).where(_MEMBERS.c.generation.in_(gone)))
            connection.execute(delete(_GENERATIONS).where(_GENERATIONS.c.number.in_(gone)))

    def embedded_at(self, registry: str) -> bool:
        """Tell where the embedded registry is now; references into it follow, for its port may change at each start."""
        with self._engine.begin() as connection:
            before = str(connection.execute(select(_WORK.c.text).where(_WORK.c.kind == _REGISTRY)).scalar() or "")
            if before == registry:
                return False
            for table in (_EXTENSIONS, _MEMBERS):
                moved = f"oci://{before}/"
                connection.execute(update(table).where(table.c.reference.startswith(moved, autoescape=True)).values(
                    reference=func.replace(table.c.reference, moved, f"oci://{registry}/")))
            connection.execute(delete(_WORK).where(_WORK.c.kind == _REGISTRY))
            connection.execute(insert(_WORK).values(kind=_REGISTRY, text=registry, since=time.time()))
        return bool(before)

    def work(self) -> dict[str, str]:
        """What a switch left to be done, by kind, with the cause of the switch."""
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return {row.kind: row.text for row in connection.execute(select(_WORK))
                    if row.kind not in {CHANGE, _REGISTRY}}

    def done(self, kind: str) -> None:
        """Such work was done."""
        with self._engine.begin() as connection:
            connection.execute(delete(_WORK).where(_WORK.c.kind == kind))

    def _select(self, number: int | None = None, limit: int | None = None) -> Sequence[Generation]:
        query = select(_GENERATIONS).order_by(_GENERATIONS.c.number.desc()).limit(limit)
        if number is not None:
            query = query.where(_GENERATIONS.c.number == number)
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            rows = connection.execute(query).all()
            wanted = _MEMBERS.c.generation.in_([row.number for row in rows])
            members = connection.execute(select(_MEMBERS).where(wanted)).all()
        # Databases sort names each in its own way.
        members = sorted(members, key=lambda member: str(member.name))
        return [Generation(row.number, row.cause, row.created_at,
                           tuple(_member(m) for m in members if m.generation == row.number),
                           GenerationState(row.state), row.note) for row in rows]


#: Kind of work that stands for the change that runs now; see `change_lock`.
CHANGE = "change"
#: Kind that is no work: where the embedded registry was last.
_REGISTRY = "registry"


def _next_number(connection: Connection, base: int) -> int:
    """Whoever loses the race of two servers finds either another newest number or its own taken."""
    newest = int(connection.execute(select(func.max(_GENERATIONS.c.number))).scalar() or 0)
    if newest != base:
        raise Conflict("the extensions were changed meanwhile", hint="Try again.")
    return newest + 1


def _activate(connection: Connection, records: Sequence[InstalledExtension], active: Collection[str]) -> None:
    for record in records:
        connection.execute(delete(_EXTENSIONS).where(_EXTENSIONS.c.digest == record.digest))
        connection.execute(insert(_EXTENSIONS).values(**{**asdict(record), "state": ExtensionState.RETIRED.value}))
    # Retiring goes first: only one version of a name may be active.
    connection.execute(update(_EXTENSIONS).where(
        _EXTENSIONS.c.state == ExtensionState.ACTIVE.value, _EXTENSIONS.c.digest.not_in(active)).values(
        state=ExtensionState.RETIRED.value))
    connection.execute(update(_EXTENSIONS).where(_EXTENSIONS.c.digest.in_(active)).values(
        state=ExtensionState.ACTIVE.value))


def _insert(connection: Connection, made: Generation) -> None:
    connection.execute(insert(_GENERATIONS).values(number=made.number, cause=made.cause, created_at=made.created_at,
                                                   state=made.state.value, note=made.note))
    for member in made.members:
        connection.execute(insert(_MEMBERS).values(generation=made.number, **asdict(member)))


def _change_settings(connection: Connection, values: Mapping[str, Mapping[str, Any]], forget: Collection[str]) -> None:
    connection.execute(delete(_SETTINGS).where(_SETTINGS.c.extension.in_(forget)))
    for extension, changed in values.items():
        connection.execute(delete(_SETTINGS).where(_SETTINGS.c.extension == extension, _SETTINGS.c.key.in_(changed)))
        for key, value in changed.items():
            connection.execute(insert(_SETTINGS).values(extension=extension, key=key, value=value))


def _member(row: Any) -> Member:
    trust = dict(row.trust)
    for name in ("signers", "attestations"):
        trust[name] = tuple(trust.get(name) or ())
    return Member(row.name, row.version, row.digest, row.reference, bool(row.requested), TrustDecision(**trust),
                  row.channel)
