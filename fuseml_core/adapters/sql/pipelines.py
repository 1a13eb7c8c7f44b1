"""Pipelines, triggers and firings in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, delete, func, select, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import FiringRow, PipelineRow, RunRow, TriggerRow, VersionRow
from fuseml_core.domain.addresses import Address, is_pattern, parse_selector
from fuseml_core.domain.records import Decision, Pipeline, Trigger

_pipelines, _triggers, _firings = table_of(PipelineRow), table_of(TriggerRow), table_of(FiringRow)
_runs, _versions = table_of(RunRow), table_of(VersionRow)
#: Key of the advisory lock that a transaction holds while it decides about triggers.
_DECIDING = 0x66757365


class SqlPipelines(Repository):
    """Pipelines with their triggers."""

    def decide_alone(self) -> None:
        """Let no other transaction decide about triggers until this one ends."""
        # On SQLite there is one writer at a time anyway.
        if self._connection.dialect.name == "postgresql":
            self._connection.execute(select(func.pg_advisory_xact_lock(_DECIDING)))

    def add(self, values: dict[str, Any]) -> int | None:
        """Insert a pipeline; returns None if project and name are taken."""
        if self.get(values["project"], values["name"]):
            return None
        return self._insert(_pipelines, {"state": "active", "next_run": 1, **values})

    def add_trigger(self, pipeline: Pipeline, input_: str, kind: str, selector: str, types: list[str]) -> int:
        """Insert a trigger for one input of a pipeline."""
        wanted = parse_selector(selector, pipeline.project)
        return self._insert(
            _triggers,
            {
                "pipeline_id": pipeline.id,
                "pipeline": pipeline.name,
                "project": pipeline.project,
                "input": input_,
                "kind": kind,
                "selector": selector,
                "types": types,
                "enabled": True,
                "only_project": "" if is_pattern(wanted.project) else wanted.project,
                "only_name": "" if is_pattern(wanted.name) else wanted.name,
            },
        )

    def get(self, project: str, name: str) -> Pipeline | None:
        """One pipeline by name."""
        row = self._first(select(_pipelines).where(_pipelines.c.project == project, _pipelines.c.name == name))
        return _pipeline(row) if row else None

    def by_ids(self, pipeline_ids: Iterable[int]) -> dict[int, Pipeline]:
        """Pipelines by id."""
        rows = self._in_parts(pipeline_ids, lambda ids: select(_pipelines).where(_pipelines.c.id.in_(ids)))
        return {int(row["id"]): _pipeline(row) for row in rows}

    def by_id(self, pipeline_id: int) -> Pipeline | None:
        """One pipeline by id."""
        return self.by_ids([pipeline_id]).get(pipeline_id)

    def all(self, project: str | None = None) -> list[Pipeline]:
        """Pipelines of a project, or all, by name."""
        statement = select(_pipelines).order_by(_pipelines.c.project, _pipelines.c.name)
        if project is not None:
            statement = statement.where(_pipelines.c.project == project)
        return [_pipeline(row) for row in self._all(statement)]

    def remove(self, pipeline_id: int) -> None:
        """Delete a pipeline with its triggers and runs."""
        self._connection.execute(delete(_pipelines).where(_pipelines.c.id == pipeline_id))

    def set_state(self, pipeline_id: int, state: str) -> None:
        """Pause (`paused`) or resume (`active`) a pipeline; its triggers follow."""
        self._connection.execute(update(_pipelines).where(_pipelines.c.id == pipeline_id).values(state=state))
        self._connection.execute(
            update(_triggers).where(_triggers.c.pipeline_id == pipeline_id).values(enabled=state == "active")
        )

    def rebind(self, pipeline_id: int, values: dict[str, Any], types: dict[str, list[str]]) -> None:
        """Give a pipeline another specification; its triggers wait for the types said by input from now on."""
        self._connection.execute(update(_pipelines).where(_pipelines.c.id == pipeline_id).values(**values))
        for input_, accepted in types.items():
            self._connection.execute(update(_triggers).where(
                _triggers.c.pipeline_id == pipeline_id, _triggers.c.input == input_).values(types=accepted))

    def next_number(self, pipeline_id: int) -> int:
        """Take the next run number; numbers are dense and given in the order of creation."""
        row = self._first(
            update(_pipelines)
            .where(_pipelines.c.id == pipeline_id)
            .values(next_run=_pipelines.c.next_run + 1)
            .returning(_pipelines.c.next_run)
        )
        assert row is not None
        return int(row["next_run"]) - 1

    def triggers(self, kind: str, project: str, name: str) -> list[Trigger]:
        """Enabled triggers that may wait for an artifact, oldest first; patterns are left to the caller."""
        rows = self._all(
            select(_triggers)
            .where(
                _triggers.c.kind == kind,
                _triggers.c.enabled,
                _triggers.c.only_project.in_(["", project]),
                _triggers.c.only_name.in_(["", name]),
            )
            .order_by(_triggers.c.id)
        )
        return [_trigger(row) for row in rows]

    def triggers_of(self, pipeline_id: int) -> list[Trigger]:
        """Triggers of one pipeline."""
        rows = self._all(select(_triggers).where(_triggers.c.pipeline_id == pipeline_id).order_by(_triggers.c.id))
        return [_trigger(row) for row in rows]

    def fire(
        self,
        trigger: Trigger,
        event_id: int,
        version_id: int,
        decision: str,
        reason: str,
        run_id: int | None,
        change: str,
        now: float,
    ) -> bool:
        """Store a decision; returns False when this trigger has met this event already (G1)."""
        return self._insert_new(
            _firings,
            {
                "trigger_id": trigger.id,
                "event_id": event_id,
                "version_id": version_id,
                "pipeline": trigger.pipeline,
                "decision": decision,
                "reason": reason,
                "run_id": run_id,
                "change": change,
                "created_at": now,
            },
        )

    def was_triggered(self, run_id: int, change: str) -> bool:
        """Whether a trigger created a run of a change, rather than a person."""
        return self._first(select(_firings.c.trigger_id).where(
            _firings.c.change == change, _firings.c.run_id == run_id).limit(1)) is not None

    def has_fired(self, trigger_id: int, event_id: int) -> bool:
        """Whether a trigger has met an event."""
        return (
            self._first(
                select(_firings.c.trigger_id).where(
                    _firings.c.trigger_id == trigger_id, _firings.c.event_id == event_id
                )
            )
            is not None
        )

    def decisions(self, *, change: str = "", version_id: int | None = None, limit: int = 500) -> list[Decision]:
        """Decisions of a change or about a version, in the order they were made."""
        statement = (
            select(
                _firings,
                _runs.c.pipeline.label("run_pipeline"),
                _runs.c.number,
                _versions.c.kind,
                _versions.c.project,
                _versions.c.name,
                _versions.c.digest,
            )
            .join(_versions, _versions.c.id == _firings.c.version_id)
            .outerjoin(_runs, _runs.c.id == _firings.c.run_id)
            .order_by(_firings.c.created_at, _firings.c.trigger_id)
            .limit(limit)
        )
        if change:
            statement = statement.where(_firings.c.change == change)
        if version_id is not None:
            statement = statement.where(_firings.c.version_id == version_id)
        return [
            Decision(
                r["pipeline"],
                r["decision"],
                r["reason"],
                f"{r['run_pipeline']}/{r['number']}" if r["number"] is not None else None,
                str(Address(r["kind"], r["project"], r["name"], digest=r["digest"])),
            )
            for r in self._all(statement)
        ]


def _pipeline(row: RowMapping) -> Pipeline:
    return Pipeline(
        id=row["id"],
        project=row["project"],
        name=row["name"],
        state=row["state"],
        template=row["template"],
        template_digest=row["template_digest"],
        extension=row["extension"],
        extension_digest=row["extension_digest"],
        spec=row["spec"],
        inputs=row["inputs"],
        parameters=row["parameters"],
        created_at=row["created_at"],
        # Numbers are dense and runs go only with their pipeline, so counting 10 000 rows is not needed.
        runs=int(row["next_run"]) - 1,
    )


def _trigger(row: RowMapping) -> Trigger:
    return Trigger(
        row["id"],
        row["pipeline_id"],
        row["pipeline"],
        row["project"],
        row["input"],
        row["selector"],
        tuple(row["types"]),
    )
