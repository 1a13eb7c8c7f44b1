"""The table of services: which instance answers for which service, and how many requests it is working on."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Invalid
from fuseml_core.gateway.endpoint import Endpoint, parse_endpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """Where one service is.

    Attributes:
        project, service: The service's key.
        endpoint: Where the instance listens; None while it is starting or when it is stopped.
        instance: Name of the workload that serves.
        predict_path: Path for predictions below the service's root.
        state: What the control process says about the service, for people.
    """

    project: str
    service: str
    endpoint: Endpoint | None
    instance: str
    predict_path: str
    state: str


class RouteTable:
    """The routes in force. Replaced as a whole, between two requests; used from one event loop only."""

    def __init__(self) -> None:
        self.version = 0
        self.in_flight: Counter[str] = Counter()
        self._routes: dict[tuple[str, str], Route] = {}

    def find(self, project: str, service: str) -> Route | None:
        """Return the route of a service, or None when there is no such service."""
        return self._routes.get((project, service))

    def find_host(self, prefix: str) -> Route | None:
        """Return the route for `<service>.<project>`; either name may contain dots."""
        labels = prefix.split(".")
        for cut in range(1, len(labels)):
            route = self.find(".".join(labels[cut:]), ".".join(labels[:cut]))
            if route:
                return route
        return None

    def endpoints(self) -> set[Endpoint]:
        """Every endpoint that a route names."""
        return {route.endpoint for route in self._routes.values() if route.endpoint}

    def replace(self, document: Any) -> None:
        """Put a new table in force, whole or not at all.

        Args:
            document: `{"version": 7, "services": {"<project>/<service>": {"endpoint", "instance",
                "predict_path", "state"}}}`; a service without an endpoint is known and not ready.

        Raises:
            Invalid: The document does not have this form; the table in force stays.
        """
        routes = _read(document)
        self._routes = routes
        self.version = int(document.get("version", 0))

    def document(self) -> dict[str, Any]:
        """The table in force, in the form that :meth:`replace` takes."""
        return {"version": self.version, "services": {
            f"{r.project}/{r.service}": {"endpoint": str(r.endpoint) if r.endpoint else None, "instance": r.instance,
                                         "predict_path": r.predict_path, "state": r.state}
            for r in self._routes.values()}}

    def load(self, path: Path) -> None:
        """Take over the table that the control process left in a file; a missing or broken file leaves it empty."""
        try:
            self.replace(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        except (OSError, ValueError, Invalid) as error:
            log.warning("routes in %s cannot be used, waiting for the control process: %s", path, error)


def _read(document: Any) -> dict[tuple[str, str], Route]:
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        raise Invalid("The route table has no object `services`")
    routes = {}
    for key, value in services.items():
        project, slash, service = key.partition("/")
        if not (project and slash and service) or "/" in service or not isinstance(value, dict):
            raise Invalid(f"The route {key!r} is not of the form project/service")
        endpoint = value.get("endpoint")
        state = value.get("state") or ("ready" if endpoint else "starting")
        routes[project, service] = Route(
            project=project, service=service, endpoint=parse_endpoint(endpoint) if endpoint else None,
            instance=value.get("instance") or "", predict_path=value.get("predict_path") or "/predict", state=state)
    return routes
