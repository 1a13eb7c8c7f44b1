"""Services and their instances in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping, delete, select, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import InstanceRow, ServiceRow
from fuseml_core.domain.records import Instance, InstanceState, Service, ServiceState

_services, _instances = table_of(ServiceRow), table_of(InstanceRow)


class SqlServices(Repository):
    """Services and the instances behind them."""

    def ensure(
        self, project: str, name: str, pipeline_id: int, pipeline: str, predict_path: str, now: float
    ) -> Service:
        """Return the service of a name, making it when it is new; its owner may be another pipeline."""
        self._insert_new(
            _services,
            {
                "project": project,
                "name": name,
                "pipeline_id": pipeline_id,
                "pipeline": pipeline,
                "desired": "running",
                "state": "starting",
                "predict_path": predict_path,
                "run": "",
                "model_id": None,
                "restarts": 0,
                "message": "",
                "created_at": now,
                "updated_at": now,
            },
        )
        found = self.get(project, name)
        assert found is not None
        return found

    def get(self, project: str, name: str) -> Service | None:
        """One service by name."""
        row = self._first(select(_services).where(_services.c.project == project, _services.c.name == name))
        return _service(row) if row else None

    def by_id(self, service_id: int) -> Service | None:
        """One service by id."""
        row = self._first(select(_services).where(_services.c.id == service_id))
        return _service(row) if row else None

    def all(self, project: str | None = None) -> list[Service]:
        """Services of a project, or all, by name."""
        statement = select(_services).order_by(_services.c.project, _services.c.name)
        if project is not None:
            statement = statement.where(_services.c.project == project)
        return [_service(row) for row in self._all(statement)]

    def of_pipeline(self, pipeline_id: int) -> list[Service]:
        """Services that a pipeline owns."""
        return [_service(r) for r in self._all(select(_services).where(_services.c.pipeline_id == pipeline_id))]

    def set(self, service_id: int, **values: Any) -> None:
        """Change columns of a service."""
        self._connection.execute(update(_services).where(_services.c.id == service_id).values(**values))

    def remove(self, service_id: int) -> None:
        """Delete a service and what is recorded of its instances."""
        self._connection.execute(delete(_services).where(_services.c.id == service_id))

    def add_instance(self, values: dict[str, Any]) -> int:
        """Insert an instance."""
        return self._insert(
            _instances, {"endpoint": "", "drain_until": None, "not_before": 0.0, "attempt": 1, **values}
        )

    def instances(self, *, service_id: int | None = None, states: Iterable[InstanceState] = ()) -> list[Instance]:
        """Instances, oldest first."""
        statement = select(_instances).order_by(_instances.c.id)
        if service_id is not None:
            statement = statement.where(_instances.c.service_id == service_id)
        wanted = [str(s) for s in states]
        if wanted:
            statement = statement.where(_instances.c.state.in_(wanted))
        return [_instance(row) for row in self._all(statement)]

    def instance_by_workload(self, workload: str) -> Instance | None:
        """The instance that a workload is."""
        row = self._first(select(_instances).where(_instances.c.workload == workload))
        return _instance(row) if row else None

    def set_instance(self, instance_id: int, **values: Any) -> None:
        """Change columns of an instance."""
        self._connection.execute(update(_instances).where(_instances.c.id == instance_id).values(**values))


def _service(row: RowMapping) -> Service:
    return Service(
        id=row["id"],
        project=row["project"],
        name=row["name"],
        pipeline_id=row["pipeline_id"],
        pipeline=row["pipeline"],
        desired=row["desired"],
        state=ServiceState(row["state"]),
        predict_path=row["predict_path"],
        run=row["run"],
        model_id=row["model_id"],
        restarts=row["restarts"],
        message=row["message"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _instance(row: RowMapping) -> Instance:
    return Instance(
        id=row["id"],
        service_id=row["service_id"],
        workload=row["workload"],
        agent=row["agent"],
        state=InstanceState(row["state"]),
        endpoint=row["endpoint"],
        fingerprint=row["fingerprint"],
        step_id=row["step_id"],
        attempt=row["attempt"],
        drain_until=row["drain_until"],
        not_before=row["not_before"],
        created_at=row["created_at"],
    )
