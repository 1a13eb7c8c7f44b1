"""Steps, what flows through them, and the cache in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, delete, select, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import CacheRow, RunRow, StepIoRow, StepRow
from fuseml_core.domain.records import Binding, Step, StepState

_steps, _io, _cache, _runs = table_of(StepRow), table_of(StepIoRow), table_of(CacheRow), table_of(RunRow)


class SqlSteps(Repository):
    """Steps of runs."""

    def add(self, values: dict[str, Any]) -> int:
        """Insert a step."""
        return self._insert(_steps, {
            "attempt": 1, "agent": "", "workload": "", "fingerprint": "", "parts": {}, "reused_from": None, "why": "",
            "phase": "", "not_before": 0.0, "started_at": None, "ended_at": None, "exit_code": None, "reason": "",
            "message": "", "log_tail": [], "warnings": [], "metrics": [], "timings": {}, **values})

    def by_id(self, step_id: int) -> Step | None:
        """One step by id."""
        row = self._first(select(_steps).where(_steps.c.id == step_id))
        return _step(row) if row else None

    def of_run(self, run_id: int) -> list[Step]:
        """Steps of a run in the order of the template."""
        return self.of_runs([run_id]).get(run_id, [])

    def of_runs(self, run_ids: Iterable[int]) -> dict[int, list[Step]]:
        """Steps of runs in the order of their templates, by run."""
        found: dict[int, list[Step]] = {}
        for row in self._in_parts(run_ids, lambda ids: select(_steps).where(
                _steps.c.run_id.in_(ids)).order_by(_steps.c.id)):
            found.setdefault(int(row["run_id"]), []).append(_step(row))
        return found

    def by_workload(self, workload: str) -> Step | None:
        """The step that a workload belongs to."""
        row = self._first(select(_steps).where(_steps.c.workload == workload))
        return _step(row) if row else None

    def in_states(self, states: Iterable[StepState]) -> list[Step]:
        """Steps in any of these states, oldest first."""
        rows = self._all(select(_steps).where(_steps.c.state.in_([str(s) for s in states])).order_by(_steps.c.id))
        return [_step(r) for r in rows]

    def change(self, step_id: int, expected: Iterable[StepState], attempt: int, /, **values: Any) -> bool:
        """Change a step only if it is still in an expected state and attempt; returns whether it was.

        This is the fence: a late report about an earlier attempt changes nothing (G3, G4).
        """
        return self._changed(update(_steps).where(
            _steps.c.id == step_id, _steps.c.attempt == attempt,
            _steps.c.state.in_([str(s) for s in expected])).values(**values)) > 0

    def set_io(self, step_id: int, direction: str, bindings: Iterable[Binding]) -> None:
        """Replace what flows into (`in`) or out of (`out`) a step."""
        self._connection.execute(delete(_io).where(_io.c.step_id == step_id, _io.c.direction == direction))
        counts: dict[str, int] = {}
        for item in bindings:
            order = counts.get(item.port, 0)
            counts[item.port] = order + 1
            self._insert(_io, {"step_id": step_id, "direction": direction, "port": item.port, "ord": order,
                               "version_id": item.version_id, "value": item.value, "defaulted": item.defaulted})

    def io(self, step_id: int, direction: str) -> list[Binding]:
        """What flowed into or out of a step."""
        return self.io_of([step_id], direction).get(step_id, [])

    def io_of(self, step_ids: Iterable[int], direction: str) -> dict[int, list[Binding]]:
        """What flowed into or out of steps, by step."""
        found: dict[int, list[Binding]] = {}
        for r in self._in_parts(step_ids, lambda ids: select(_io).where(
                _io.c.step_id.in_(ids), _io.c.direction == direction).order_by(_io.c.step_id, _io.c.port, _io.c.ord)):
            found.setdefault(int(r["step_id"]), []).append(
                Binding(r["port"], r["version_id"], r["value"], r["defaulted"]))
        return found

    def cached(self, fingerprint: str) -> Step | None:
        """The succeeded step whose outputs a fingerprint stands for."""
        row = self._first(select(_steps).join(_cache, _cache.c.step_id == _steps.c.id)
                          .where(_cache.c.fingerprint == fingerprint, _steps.c.state == StepState.SUCCEEDED))
        return _step(row) if row else None

    def remember(self, fingerprint: str, step_id: int, now: float) -> None:
        """Let a fingerprint stand for the outputs of a step."""
        self._upsert(_cache, {"fingerprint": fingerprint, "step_id": step_id, "created_at": now}, ["fingerprint"])

    def previous(self, pipeline_id: int, name: str, before_run: int, limit: int = 20) -> list[Step]:
        """The same step in the last earlier runs of a pipeline in which it succeeded, the last one first."""
        rows = self._all(select(_steps).join(_runs, _runs.c.id == _steps.c.run_id).where(
            _runs.c.pipeline_id == pipeline_id, _steps.c.name == name, _runs.c.id < before_run,
            _steps.c.state == StepState.SUCCEEDED).order_by(_runs.c.id.desc()).limit(limit))
        return [_step(row) for row in rows]

    def run_name(self, step_id: int) -> str:
        """`<pipeline>/<number>` of the run that a step belongs to."""
        row = self._first(select(_runs.c.pipeline, _runs.c.number).join(_steps, _steps.c.run_id == _runs.c.id)
                          .where(_steps.c.id == step_id))
        return f"{row['pipeline']}/{row['number']}" if row else ""


def _step(row: RowMapping) -> Step:
    return Step(id=row["id"], uid=row["uid"], run_id=row["run_id"], name=row["name"], state=StepState(row["state"]),
                attempt=row["attempt"], agent=row["agent"], workload=row["workload"], fingerprint=row["fingerprint"],
                parts=row["parts"], reused=row["reused_from"] is not None, why=row["why"], phase=row["phase"],
                not_before=row["not_before"], started_at=row["started_at"], ended_at=row["ended_at"],
                exit_code=row["exit_code"], reason=row["reason"], message=row["message"],
                log_tail=tuple(row["log_tail"]), warnings=tuple(row["warnings"]), metrics=tuple(row["metrics"]),
                timings=row["timings"])
