"""Tables of the core, portable between SQLite and PostgreSQL.

Times are seconds since the epoch. Names (project, artifact, pipeline) stand beside ids where lists are read often,
so that no list needs a join.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
).naming_convention

#: JSON on SQLite, JSONB on PostgreSQL.
Json = JSON().with_variant(JSONB(), "postgresql")
#: SQLite counts only INTEGER PRIMARY KEY up by itself.
BigId = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Any:
    return Field(default=None, sa_column=Column("id", BigId, primary_key=True, autoincrement=True))


def _json(default: type = dict) -> Any:
    return Field(default_factory=default, sa_column=Column(Json, nullable=False))


def _time(nullable: bool = False) -> Any:
    return Field(default=None, sa_column=Column(Float(53), nullable=nullable))


def _parent(table: str, *, index: bool = False, nullable: bool = False) -> Any:
    return Field(
        default=None,
        sa_column=Column(BigInteger, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=nullable, index=index),
    )


class ProjectRow(SQLModel, table=True):
    """A project."""

    __tablename__ = "project"
    id: int | None = _id()
    name: str = Field(unique=True)
    description: str = ""
    stores: dict[str, Any] = _json()
    created_at: float = _time()


class ArtifactRow(SQLModel, table=True):
    """A name under which versions are registered."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("kind", "project", "name"),)
    id: int | None = _id()
    kind: str
    project: str
    name: str
    next_seq: int = 1
    default_branch: str = ""
    deleted: bool = False
    created_at: float = _time()


class VersionRow(SQLModel, table=True):
    """One immutable version."""

    __tablename__ = "artifact_version"
    __table_args__ = (
        UniqueConstraint("artifact_id", "digest"),
        Index("ix_version_digest", "digest"),
        Index("ix_version_listing", "kind", "project", "created_at", "id"),
        Index("ix_version_name", "kind", "project", "name", "seq"),
        Index("ix_version_seq", "artifact_id", "seq"),
        Index("ix_version_newest", "created_at", "id"),
    )
    id: int | None = _id()
    artifact_id: int = _parent("artifact")
    kind: str
    project: str
    name: str
    digest: str
    seq: int
    type: str | None = None
    size: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    location: str = ""
    store: str = ""
    labels: dict[str, Any] = _json()
    facets: dict[str, Any] = _json()
    management: str = "internal"
    change: str = Field(index=True)
    producer_run: str = ""
    producer_step: str = ""
    created_at: float = _time()


class AliasRow(SQLModel, table=True):
    """A movable name of one version: branch, tag, stage."""

    __tablename__ = "artifact_alias"
    artifact_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("artifact.id", ondelete="CASCADE"), primary_key=True)
    )
    name: str = Field(primary_key=True)
    version_id: int = _parent("artifact_version", index=True)
    moved_at: float = _time()


class EventRow(SQLModel, table=True):
    """Something that happened to an artifact and that triggers look at."""

    __tablename__ = "event"
    id: int | None = _id()
    dedupe_key: str = Field(unique=True)
    type: str
    version_id: int = _parent("artifact_version", index=True)
    change: str
    created_at: float = _time()


class PipelineRow(SQLModel, table=True):
    """A template bound to a project."""

    __tablename__ = "pipeline"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: int | None = _id()
    project: str
    name: str
    state: str = "active"
    template: str
    template_digest: str
    extension: str
    extension_digest: str
    spec: dict[str, Any] = _json()
    inputs: dict[str, Any] = _json()
    parameters: dict[str, Any] = _json()
    next_run: int = 1
    created_at: float = _time()


class TriggerRow(SQLModel, table=True):
    """An input of a pipeline that waits for artifacts.

    `only_project` and `only_name` are empty when the selector has a pattern there.
    """

    __tablename__ = "trigger"
    __table_args__ = (Index("ix_trigger_match", "kind", "only_name", "only_project"),)
    id: int | None = _id()
    pipeline_id: int = _parent("pipeline", index=True)
    pipeline: str
    project: str
    input: str
    kind: str
    selector: str
    types: list[Any] = _json(list)
    enabled: bool = True
    only_project: str = ""
    only_name: str = ""


class FiringRow(SQLModel, table=True):
    """What a trigger decided about an event; the key makes it at most once (G1)."""

    __tablename__ = "trigger_firing"
    trigger_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("trigger.id", ondelete="CASCADE"), primary_key=True)
    )
    event_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True, index=True)
    )
    version_id: int = _parent("artifact_version", index=True)
    pipeline: str
    decision: str
    reason: str
    run_id: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    change: str = Field(index=True)
    created_at: float = _time()


class RunRow(SQLModel, table=True):
    """One execution of a pipeline."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "number"),
        Index("ix_run_listing", "project", "created_at", "id"),
        Index("ix_run_name", "project", "pipeline", "number"),
        Index("ix_run_previous", "pipeline_id", "id"),
    )
    id: int | None = _id()
    uid: str = Field(unique=True)
    run_key: str = Field(unique=True)
    project: str
    pipeline_id: int = _parent("pipeline")
    pipeline: str
    number: int
    change: str = Field(index=True)
    state: str = Field(index=True)
    parameters: dict[str, Any] = _json()
    no_cache: bool = False
    cancel_requested: bool = False
    only: str = ""
    stepping: bool = False
    released: int = 0
    swaps: dict[str, Any] = _json()
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    created_at: float = _time()
    started_at: float | None = _time(nullable=True)
    ended_at: float | None = _time(nullable=True)


class RunInputRow(SQLModel, table=True):
    """The version that an input of a run is bound to."""

    __tablename__ = "run_input"
    run_id: int = Field(sa_column=Column(BigInteger, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True))
    input: str = Field(primary_key=True)
    version_id: int = _parent("artifact_version", index=True)


class StepRow(SQLModel, table=True):
    """One step of a run."""

    __tablename__ = "step_run"
    __table_args__ = (UniqueConstraint("run_id", "name"), Index("ix_step_fingerprint", "fingerprint"))
    id: int | None = _id()
    uid: str = Field(unique=True)
    run_id: int = _parent("run")
    name: str
    state: str = Field(index=True)
    attempt: int = 1
    agent: str = ""
    workload: str = Field(default="", index=True)
    fingerprint: str = ""
    parts: dict[str, Any] = _json()
    reused_from: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    why: str = Field(default="", sa_column=Column(Text, nullable=False))
    phase: str = ""
    not_before: float = Field(default=0.0, sa_column=Column(Float(53), nullable=False))
    started_at: float | None = _time(nullable=True)
    ended_at: float | None = _time(nullable=True)
    exit_code: int | None = None
    reason: str = ""
    message: str = Field(default="", sa_column=Column(Text, nullable=False))
    log_tail: list[Any] = _json(list)
    warnings: list[Any] = _json(list)
    metrics: list[Any] = _json(list)
    timings: dict[str, Any] = _json()


class StepIoRow(SQLModel, table=True):
    """An artifact or value that went into or came out of a step; lineage reads it in both directions."""

    __tablename__ = "step_io"
    __table_args__ = (Index("ix_step_io_version", "version_id", "direction", "step_id"),)
    step_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("step_run.id", ondelete="CASCADE"), primary_key=True)
    )
    direction: str = Field(primary_key=True)
    port: str = Field(primary_key=True)
    ord: int = Field(primary_key=True)
    version_id: int | None = _parent("artifact_version", nullable=True)
    value: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    defaulted: bool = False


class CacheRow(SQLModel, table=True):
    """The step whose outputs can be reused for a fingerprint."""

    __tablename__ = "cache_entry"
    fingerprint: str = Field(primary_key=True)
    step_id: int = _parent("step_run", index=True)
    created_at: float = _time()


class ServiceRow(SQLModel, table=True):
    """A served model."""

    __tablename__ = "service"
    __table_args__ = (UniqueConstraint("project", "name"),)
    id: int | None = _id()
    project: str
    name: str
    pipeline_id: int = _parent("pipeline", index=True)
    pipeline: str
    desired: str = "running"
    state: str = "starting"
    predict_path: str = "/predict"
    run: str = ""
    model_id: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    restarts: int = 0
    message: str = Field(default="", sa_column=Column(Text, nullable=False))
    created_at: float = _time()
    updated_at: float = _time()


class InstanceRow(SQLModel, table=True):
    """One copy behind a service."""

    __tablename__ = "service_instance"
    id: int | None = _id()
    service_id: int = _parent("service", index=True)
    workload: str = Field(unique=True)
    agent: str
    state: str = Field(index=True)
    endpoint: str = ""
    fingerprint: str = ""
    step_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempt: int = 1
    drain_until: float | None = _time(nullable=True)
    not_before: float = Field(default=0.0, sa_column=Column(Float(53), nullable=False))
    created_at: float = _time()


class FeedRow(SQLModel, table=True):
    """What happened in a change, one line each, in the order of `seq` within a change."""

    __tablename__ = "feed"
    __table_args__ = (Index("ix_feed_change", "change", "id"),)
    id: int | None = _id()
    change: str
    at: float = _time()
    kind: str
    run: str = ""
    step: str = ""
    state: str = ""
    text: str = Field(default="", sa_column=Column(Text, nullable=False))


class CursorRow(SQLModel, table=True):
    """How far the events of a store or agent have been read."""

    __tablename__ = "event_cursor"
    source: str = Field(primary_key=True)
    cursor: str = Field(sa_column=Column(Text, nullable=False))
