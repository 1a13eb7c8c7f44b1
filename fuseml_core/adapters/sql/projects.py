"""Projects in SQL."""

from __future__ import annotations

from sqlalchemy import ColumnElement, RowMapping, Table, delete, func, select, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import ArtifactRow, PipelineRow, ProjectRow, ServiceRow
from fuseml_core.domain.records import Project

_projects, _artifacts = table_of(ProjectRow), table_of(ArtifactRow)
_pipelines, _services = table_of(PipelineRow), table_of(ServiceRow)


class SqlProjects(Repository):
    """Projects by name."""

    def add(self, name: str, description: str, now: float) -> bool:
        """Add a project; returns False if the name is taken."""
        return self._insert_new(_projects, {"name": name, "description": description, "stores": {},
                                             "created_at": now})

    def set_stores(self, name: str, stores: dict[str, str]) -> None:
        """Set which store a project uses for which kind."""
        self._connection.execute(update(_projects).where(_projects.c.name == name).values(stores=stores))

    def get(self, name: str) -> Project | None:
        """One project, or None."""
        row = self._first(select(_projects).where(_projects.c.name == name))
        return _project(row) if row else None

    def all(self) -> list[Project]:
        """All projects by name."""
        rows = self._all(select(_projects).order_by(_projects.c.name))
        return [_project(row) for row in rows]

    def counts(self, name: str) -> dict[str, int]:
        """How many codesets, pipelines and services a project has."""
        def count(table: Table, *where: ColumnElement[bool]) -> int:
            return int(self._connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())

        return {
            "codesets": count(_artifacts, _artifacts.c.project == name, _artifacts.c.kind == "codeset",
                              _artifacts.c.deleted.is_(False)),
            "pipelines": count(_pipelines, _pipelines.c.project == name),
            "services": count(_services, _services.c.project == name),
        }

    def remove(self, name: str) -> None:
        """Delete a project with its pipelines, runs, services and artifact descriptors."""
        self._connection.execute(delete(_pipelines).where(_pipelines.c.project == name))
        self._connection.execute(delete(_artifacts).where(_artifacts.c.project == name))
        self._connection.execute(delete(_projects).where(_projects.c.name == name))


def _project(row: RowMapping) -> Project:
    return Project(row["name"], row["description"], row["created_at"], row["stores"])
