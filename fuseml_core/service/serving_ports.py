"""What the engine needs to remember of services, as a Protocol; an adapter implements it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fuseml_core.domain.records import Instance, InstanceState, Service


class Services(Protocol):
    """Services and the instances behind them."""

    def ensure(
        self, project: str, name: str, pipeline_id: int, pipeline: str, predict_path: str, now: float
    ) -> Service:
        """Return the service of a name, making it when it is new; its owner may be another pipeline."""
        ...

    def get(self, project: str, name: str) -> Service | None:
        """One service by name."""
        ...

    def by_id(self, service_id: int) -> Service | None:
        """One service by id."""
        ...

    def all(self, project: str | None = None) -> list[Service]:
        """Services of a project, or all, by name."""
        ...

    def of_pipeline(self, pipeline_id: int) -> list[Service]:
        """Services that a pipeline owns."""
        ...

    def set(self, service_id: int, **values: Any) -> None:
        """Change columns of a service."""
        ...

    def remove(self, service_id: int) -> None:
        """Delete a service and what is recorded of its instances."""
        ...

    def add_instance(self, values: dict[str, Any]) -> int:
        """Insert an instance."""
        ...

    def instances(self, *, service_id: int | None = None, states: Iterable[InstanceState] = ()) -> list[Instance]:
        """Instances, oldest first."""
        ...

    def instance_by_workload(self, workload: str) -> Instance | None:
        """The instance that a workload is."""
        ...

    def set_instance(self, instance_id: int, **values: Any) -> None:
        """Change columns of an instance."""
        ...
