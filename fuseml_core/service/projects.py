"""Projects: creating, listing, deleting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fuseml_core.domain.errors import Conflict, Failed, Invalid, NotFound, Refused
from fuseml_core.domain.names import check_project
from fuseml_core.domain.records import Project
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import CODESET, RUNNABLE, ArtifactRef

#: Project of commands that name none; made on first use.
DEFAULT = "default"


class Projects:
    """Use cases around projects."""

    def __init__(self, ledger: Ledger, components: Components, stop_services: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._components = components
        self._stop_services = stop_services

    def create(self, name: str, description: str = "") -> dict[str, Any]:
        """Create a project.

        Raises:
            Invalid: The name cannot be used.
            Conflict: It is taken.
        """
        check_project(name)
        with self._ledger.begin() as tx:
            if not tx.projects.add(name, description, time.time()):
                raise Conflict(f"the project {name!r} exists already", hint=f"Use it: fuseml project set {name}.")
        return self.get(name)

    def ensure(self, name: str) -> None:
        """Make the project `default` if it is meant and new.

        Raises:
            NotFound: Another project is meant and does not exist.
        """
        if name == DEFAULT:
            with self._ledger.begin() as tx:
                tx.projects.add(DEFAULT, "made on first use", time.time())
        else:
            self.get(name)

    def all(self) -> list[dict[str, Any]]:
        """All projects."""
        with self._ledger.read() as tx:
            return [_view(p, tx.projects.counts(p.name)) for p in tx.projects.all()]

    def get(self, name: str) -> dict[str, Any]:
        """One project.

        Raises:
            NotFound: There is none of this name; the message lists what there is.
        """
        with self._ledger.read() as tx:
            project = tx.projects.get(name)
            if project is not None:
                return _view(project, tx.projects.counts(name))
            known = ", ".join(p.name for p in tx.projects.all()) or "none"
        raise NotFound(
            f"there is no project {name!r}", hint=f"Known: {known}. Create it: fuseml project create {name}."
        )

    def set_store(self, name: str, kind: str, store: str) -> dict[str, Any]:
        """Let new artifacts of a kind go to a store; what is there already stays where it lies.

        Args:
            name: The project.
            kind: model, dataset or a kind of an extension.
            store: Such as `shelf/shelf`; empty goes back to the built-in one.

        Raises:
            NotFound: There is no such project.
            Invalid: Artifacts of this kind cannot lie elsewhere, or the store does not take them in.
            Unavailable: There is no store of that name.
            Failed: The store does not work.
        """
        project = self.get(name)
        if kind in (CODESET, RUNNABLE):
            raise Invalid(f"every {kind} lies in the server's own store", hint="Choose a store for models or datasets.")
        if store:
            self._check_store(kind, store)
        stores = {k: v for k, v in {**project["stores"], kind: store}.items() if v}
        with self._ledger.begin() as tx:
            tx.projects.set_stores(name, stores)
        return self.get(name)

    def _check_store(self, kind: str, store: str) -> None:
        try:
            described = self._components.store(kind, store).describe()
        except PluginError as error:
            raise Failed(f"the store {store} does not work: {error.message}", hint=error.hint) from error
        if kind not in described.kinds or "register" not in described.capabilities:
            kinds = ", ".join(described.kinds) if "register" in described.capabilities else "none"
            raise Invalid(f"the store {store} does not take in artifacts of kind {kind}",
                          hint=f"It takes in: {kinds}.")

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a project with its codesets, pipelines, runs and services.

        Raises:
            NotFound: There is none of this name.
            Refused: It is not empty and `force` is not given, or runs are active.
        """
        project = self.get(name)
        held = [f"{project[k]} {k}" for k in ("codesets", "pipelines", "services") if project[k]]
        if held and not force:
            raise Refused(f"the project {name!r} has {', '.join(held)}", hint="Delete them too with --force.")
        with self._ledger.read() as tx:
            active = [r.name for r in tx.runs.page(project=name, state="running")]
            codesets = [row["name"] for row in tx.artifacts.names(CODESET, name)]
        if active:
            raise Refused(
                f"runs of the project {name!r} are active: {', '.join(active[:5])}",
                hint="Wait, or cancel them: fuseml run cancel <run>.",
            )
        self._stop_services(name)
        for codeset in codesets:
            self._components.store(CODESET).delete(ArtifactRef(kind=CODESET, project=name, name=codeset, digest=""))
        with self._ledger.begin() as tx:
            tx.projects.remove(name)


def _view(project: Project, counts: dict[str, int]) -> dict[str, Any]:
    return {"name": project.name, "description": project.description, "created_at": project.created_at,
            "stores": project.stores, **counts}
