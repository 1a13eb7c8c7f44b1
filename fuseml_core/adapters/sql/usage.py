"""What the database knows of things on disk: which artifacts, workloads and runs still exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import CompoundSelect, Engine, Select, select, union

from fuseml_core.adapters.sql.rows import table_of
from fuseml_core.adapters.sql.tables import (
    ArtifactRow,
    InstanceRow,
    RunInputRow,
    RunRow,
    StepIoRow,
    StepRow,
    VersionRow,
)
from fuseml_core.domain.records import RunState

_ARTIFACTS, _VERSIONS, _RUNS, _STEPS = map(table_of, (ArtifactRow, VersionRow, RunRow, StepRow))
_INPUTS, _IO, _INSTANCES = map(table_of, (RunInputRow, StepIoRow, InstanceRow))
_ENDED = [state.value for state in RunState if state is not RunState.RUNNING]


class SqlUsage:
    """Answers what must stay; reads only.

    Args:
        engine: Of the core's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def versions(self, kinds: Iterable[str] | None = None) -> frozenset[str]:
        """Digests of artifacts that exist, and of those that a run which has not ended takes or gave."""
        existing = select(_VERSIONS.c.digest).join(_ARTIFACTS, _ARTIFACTS.c.id == _VERSIONS.c.artifact_id).where(
            _ARTIFACTS.c.deleted.is_(False))
        active = select(_RUNS.c.id).where(_RUNS.c.state.not_in(_ENDED))
        taken = select(_INPUTS.c.version_id).where(_INPUTS.c.run_id.in_(active))
        moved = select(_IO.c.version_id).join(_STEPS, _STEPS.c.id == _IO.c.step_id).where(
            _STEPS.c.run_id.in_(active), _IO.c.version_id.is_not(None))
        used = select(_VERSIONS.c.digest).where(_VERSIONS.c.id.in_(union(taken, moved)))
        if kinds is not None:
            wanted = list(kinds)
            existing, used = existing.where(_VERSIONS.c.kind.in_(wanted)), used.where(_VERSIONS.c.kind.in_(wanted))
        return self._texts(union(existing, used))

    def workloads(self) -> frozenset[str]:
        """Names of workloads of runs that have not ended, and of instances of services."""
        steps = select(_STEPS.c.workload).join(_RUNS, _RUNS.c.id == _STEPS.c.run_id).where(
            _RUNS.c.state.not_in(_ENDED), _STEPS.c.workload != "")
        return self._texts(union(steps, select(_INSTANCES.c.workload)))

    def outputs(self) -> frozenset[str]:
        """Locations of files that steps passed on without registering them: they lie where the step left them."""
        return self._texts(select(_IO.c.value).where(_IO.c.direction == "out", _IO.c.value.like("file:%")))

    def _texts(self, query: Select[Any] | CompoundSelect[Any]) -> frozenset[str]:
        with self._engine.connect().execution_options(fuseml_read_only=True) as connection:
            return frozenset(str(row[0]) for row in connection.execute(query))
