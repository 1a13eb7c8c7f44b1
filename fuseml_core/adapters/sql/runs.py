"""Runs and their inputs in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, select, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import RunInputRow, RunRow, StepIoRow, StepRow, VersionRow
from fuseml_core.domain.records import Run, RunState

_runs, _inputs = table_of(RunRow), table_of(RunInputRow)
_steps, _io, _versions = table_of(StepRow), table_of(StepIoRow), table_of(VersionRow)


class SqlRuns(Repository):
    """Pipeline runs."""

    def find_key(self, run_key: str) -> Run | None:
        """The run with a key, if there is one (G2: one run per key)."""
        row = self._first(select(_runs).where(_runs.c.run_key == run_key))
        return _run(row) if row else None

    def add(self, values: dict[str, Any], inputs: dict[str, int]) -> int:
        """Insert a run with its bound inputs and return its id."""
        run_id = self._insert(_runs, values)
        for name, version_id in inputs.items():
            self._insert(_inputs, {"run_id": run_id, "input": name, "version_id": version_id})
        return run_id

    def by_id(self, run_id: int) -> Run | None:
        """One run by id."""
        row = self._first(select(_runs).where(_runs.c.id == run_id))
        return _run(row) if row else None

    def get(self, project: str, pipeline: str, number: int) -> Run | None:
        """One run by its name."""
        row = self._first(select(_runs).where(_runs.c.project == project, _runs.c.pipeline == pipeline,
                                              _runs.c.number == number))
        return _run(row) if row else None

    def active(self) -> list[Run]:
        """Runs that have not ended, oldest first."""
        return [_run(r) for r in self._all(select(_runs).where(_runs.c.state == RunState.RUNNING).order_by(_runs.c.id))]

    def page(self, *, project: str = "", pipeline: str = "", state: str = "", change: str = "",
             limit: int = 100) -> list[Run]:
        """Runs, newest first."""
        statement = select(_runs).order_by(_runs.c.created_at.desc(), _runs.c.id.desc()).limit(limit)
        for column, value in ((_runs.c.project, project), (_runs.c.pipeline, pipeline), (_runs.c.state, state),
                              (_runs.c.change, change)):
            if value:
                statement = statement.where(column == value)
        return [_run(row) for row in self._all(statement)]

    def inputs(self, run_id: int) -> dict[str, int]:
        """Version id by input."""
        return self.inputs_of([run_id]).get(run_id, {})

    def inputs_of(self, run_ids: Iterable[int]) -> dict[int, dict[str, int]]:
        """Version id by input, by run."""
        found: dict[int, dict[str, int]] = {}
        for row in self._in_parts(run_ids, lambda ids: select(_inputs).where(_inputs.c.run_id.in_(ids))
                                  .order_by(_inputs.c.run_id, _inputs.c.input)):
            found.setdefault(int(row["run_id"]), {})[row["input"]] = int(row["version_id"])
        return found

    def any_active(self, change: str) -> bool:
        """Whether a run of a change has not ended."""
        return self._first(select(_runs.c.id).where(
            _runs.c.change == change, _runs.c.state == RunState.RUNNING).limit(1)) is not None

    def lock(self, run_id: int) -> Run | None:
        """The run as it is now; no other transaction changes it before this one ends."""
        # SQLite has one writer at a time and leaves the lock out.
        row = self._first(select(_runs).where(_runs.c.id == run_id).with_for_update())
        return _run(row) if row else None

    def end(self, run_id: int, state: RunState, error: str, started_at: float, ended_at: float) -> bool:
        """End a run that has not ended; returns whether it had not."""
        return self._changed(update(_runs).where(_runs.c.id == run_id, _runs.c.state == RunState.RUNNING).values(
            state=state, error=error, started_at=started_at, ended_at=ended_at)) > 0

    def later_giver(self, run_id: int, kind: str, project: str, name: str) -> str:
        """Name of a later run of the same pipeline that put out an artifact of this name already, or empty."""
        pipeline = select(_runs.c.pipeline_id).where(_runs.c.id == run_id).scalar_subquery()
        row = self._first(select(_runs.c.pipeline, _runs.c.number).join(_steps, _steps.c.run_id == _runs.c.id)
                          .join(_io, _io.c.step_id == _steps.c.id).join(_versions, _versions.c.id == _io.c.version_id)
                          .where(_runs.c.pipeline_id == pipeline, _runs.c.id > run_id, _io.c.direction == "out",
                                 _versions.c.kind == kind, _versions.c.project == project, _versions.c.name == name)
                          .order_by(_runs.c.id.desc()).limit(1))
        return f"{row['pipeline']}/{row['number']}" if row else ""

    def consuming(self, version_ids: list[int]) -> list[Run]:
        """Runs that took any of these versions as an input, newest first."""
        rows = self._in_parts(version_ids, lambda ids: select(_runs).where(
            _runs.c.id.in_(select(_inputs.c.run_id).where(_inputs.c.version_id.in_(ids)))))
        found = {int(r["id"]): r for r in rows}
        return [_run(found[i]) for i in sorted(found, reverse=True)]

    def produced(self, run_ids: Iterable[int]) -> dict[int, list[int]]:
        """Version ids that the steps of runs put out, reused ones included, by run."""
        found: dict[int, list[int]] = {}
        for row in self._in_parts(run_ids, lambda ids: select(_steps.c.run_id, _io.c.version_id).join(
                _steps, _steps.c.id == _io.c.step_id).where(
                _steps.c.run_id.in_(ids), _io.c.direction == "out", _io.c.version_id.is_not(None)).distinct()):
            found.setdefault(int(row["run_id"]), []).append(int(row["version_id"]))
        return found

    def set(self, run_id: int, **values: Any) -> None:
        """Change columns of a run."""
        self._connection.execute(update(_runs).where(_runs.c.id == run_id).values(**values))


def _run(row: RowMapping) -> Run:
    return Run(id=row["id"], uid=row["uid"], project=row["project"], pipeline_id=row["pipeline_id"],
               pipeline=row["pipeline"], number=row["number"], change=row["change"], state=RunState(row["state"]),
               parameters=row["parameters"], no_cache=row["no_cache"], cancel_requested=row["cancel_requested"],
               only=row["only"], stepping=row["stepping"], released=row["released"], swaps=row["swaps"],
               error=row["error"], created_at=row["created_at"], started_at=row["started_at"], ended_at=row["ended_at"])
