"""Services: listing, logs, stopping and starting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fuseml_core.domain.errors import NotFound
from fuseml_core.domain.records import InstanceState, Service, ServiceState
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger
from fuseml_core.service.views import service_view
from fuseml_sdk.errors import NotFound as WorkloadGone
from fuseml_sdk.errors import PluginError

_LIVE = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)
CANCEL_GRACE = 10.0


class Services:
    """Use cases around services."""

    def __init__(self, ledger: Ledger, components: Components, url: Callable[[str, str, str], str]) -> None:
        self._ledger = ledger
        self._components = components
        self._url = url
        #: Set by the composition root: puts the routing table into force and wakes the engine.
        self.changed: Callable[[], None] = lambda: None

    def all(self, project: str | None) -> list[dict[str, Any]]:
        """Services of a project, or of all."""
        with self._ledger.read() as tx:
            return [
                service_view(tx, s, self._url(s.project, s.name, s.predict_path)) for s in tx.services.all(project)
            ]

    def get(self, project: str, name: str) -> dict[str, Any]:
        """One service."""
        service = self._find(project, name)
        with self._ledger.read() as tx:
            return service_view(tx, service, self._url(project, name, service.predict_path))

    def _find(self, project: str, name: str) -> Service:
        with self._ledger.read() as tx:
            service = tx.services.get(project, name)
            if service is not None:
                return service
            known = ", ".join(s.name for s in tx.services.all(project)) or "none"
        raise NotFound(f"there is no service {name!r} in project {project!r}", hint=f"Known there: {known}.")

    def logs(self, project: str, name: str, cursor: str, limit: int) -> dict[str, Any]:
        """A piece of the log of the newest instance."""
        service = self._find(project, name)
        with self._ledger.read() as tx:
            instances = tx.services.instances(service_id=service.id)
        for instance in reversed(instances):
            try:
                chunk = self._components.agent(instance.agent).logs(instance.workload, cursor, limit)
            except WorkloadGone:
                continue
            return {
                "text": chunk.text,
                "cursor": chunk.cursor,
                "complete": chunk.complete,
                "instance": instance.workload,
            }
        return {"text": "", "cursor": cursor, "complete": True, "instance": None}

    def stop(self, project: str, name: str) -> dict[str, Any]:
        """Stop a service and leave it stopped until it is started or its pipeline serves a new model."""
        service = self._find(project, name)
        with self._ledger.begin() as tx:
            tx.services.set(
                service.id, desired="stopped", state=ServiceState.STOPPED, message="", updated_at=time.time()
            )
        self.changed()
        self._end(service)
        return self.get(project, name)

    def start(self, project: str, name: str) -> dict[str, Any]:
        """Start a stopped service again."""
        service = self._find(project, name)
        if service.desired != "running":
            with self._ledger.begin() as tx:
                tx.services.set(
                    service.id, desired="running", state=ServiceState.STARTING, restarts=0, updated_at=time.time()
                )
            self.changed()
        return self.get(project, name)

    def stop_of_project(self, project: str) -> None:
        """Stop and forget every service of a project."""
        with self._ledger.read() as tx:
            found = tx.services.all(project)
        self._forget(found)

    def stop_of_pipeline(self, pipeline_id: int) -> None:
        """Stop and forget every service that a pipeline owns."""
        with self._ledger.read() as tx:
            found = tx.services.of_pipeline(pipeline_id)
        self._forget(found)

    def _forget(self, services: list[Service]) -> None:
        for service in services:
            self.stop(service.project, service.name)
        with self._ledger.begin() as tx:
            for service in services:
                tx.services.remove(service.id)

    def _end(self, service: Service) -> None:
        with self._ledger.begin() as tx:
            live = tx.services.instances(service_id=service.id, states=_LIVE)
            for instance in live:
                tx.services.set_instance(instance.id, state=InstanceState.ENDED)
        for instance in live:
            try:
                agent = self._components.agent(instance.agent)
                agent.cancel(instance.workload, CANCEL_GRACE)
                agent.collect(instance.workload)
            except PluginError:
                continue
