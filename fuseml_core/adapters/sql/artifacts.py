"""Artifact versions, their aliases and events in SQL."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, func, or_, select, true, update

from fuseml_core.adapters.sql.rows import Repository, table_of
from fuseml_core.adapters.sql.tables import AliasRow, ArtifactRow, EventRow, VersionRow
from fuseml_core.domain.addresses import Address
from fuseml_core.domain.records import NewVersion, Version

_artifacts, _versions = table_of(ArtifactRow), table_of(VersionRow)
_aliases, _events = table_of(AliasRow), table_of(EventRow)


class SqlArtifacts(Repository):
    """Artifacts: names and their immutable versions."""

    def ensure(self, kind: str, project: str, name: str, now: float) -> int:
        """Return the id of a name, making it when it is new."""
        self._insert_new(_artifacts, {"kind": kind, "project": project, "name": name, "next_seq": 1,
                                      "default_branch": "", "deleted": False, "created_at": now})
        where = and_(_artifacts.c.kind == kind, _artifacts.c.project == project, _artifacts.c.name == name)
        self._connection.execute(update(_artifacts).where(where, _artifacts.c.deleted).values(deleted=False))
        row = self._first(select(_artifacts.c.id).where(where))
        assert row is not None
        return int(row["id"])

    def default_branch(self, artifact_id: int, first_pushed: str) -> str:
        """The branch whose tip is the current code: `main` once it exists, before that the first one pushed."""
        takes_over = _artifacts.c.default_branch == "" if first_pushed != "main" else true()
        self._connection.execute(update(_artifacts).where(
            _artifacts.c.id == artifact_id, takes_over).values(default_branch=first_pushed))
        row = self._first(select(_artifacts.c.default_branch).where(_artifacts.c.id == artifact_id))
        return str(row["default_branch"]) if row else first_pushed

    def add_version(self, artifact_id: int, new: NewVersion, change: str, producer: tuple[str, str] | None,
                    now: float) -> tuple[int, bool]:
        """Insert a version; same name and digest is the same version. Returns its id and whether it is new."""
        existing = self._first(select(_versions.c.id).where(
            _versions.c.artifact_id == artifact_id, _versions.c.digest == new.digest))
        if existing:
            return int(existing["id"]), False
        seq = self._first(update(_artifacts).where(_artifacts.c.id == artifact_id).values(
            next_seq=_artifacts.c.next_seq + 1).returning(_artifacts.c.next_seq))
        assert seq is not None
        run, step = producer or ("", "")
        version_id = self._insert(_versions, {
            "artifact_id": artifact_id, "kind": new.kind, "project": new.project, "name": new.name,
            "digest": new.digest, "seq": int(seq["next_seq"]) - 1, "type": new.type, "size": new.size,
            "location": new.location, "store": new.store, "labels": new.labels, "facets": new.metadata,
            "management": new.management, "change": change, "producer_run": run, "producer_step": step,
            "created_at": now})
        return version_id, True

    def move_alias(self, artifact_id: int, alias: str, version_id: int, now: float) -> None:
        """Point an alias at a version."""
        self._upsert(_aliases, {"artifact_id": artifact_id, "name": alias, "version_id": version_id, "moved_at": now},
                     ["artifact_id", "name"])

    def drop_alias(self, kind: str, project: str, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        ids = select(_artifacts.c.id).where(
            _artifacts.c.kind == kind, _artifacts.c.project == project, _artifacts.c.name == name)
        self._connection.execute(_aliases.delete().where(_aliases.c.artifact_id.in_(ids), _aliases.c.name == alias))

    def set_type(self, version_id: int, type_: str | None, metadata: dict[str, Any]) -> None:
        """Store what a builder recognised a codeset to be."""
        self._connection.execute(update(_versions).where(_versions.c.id == version_id).values(
            type=type_, facets=metadata))

    def add_event(self, type_: str, version_id: int, dedupe_key: str, change: str, now: float) -> int | None:
        """Insert an event; returns None when the same one is there already."""
        inserted = self._insert_new(_events, {"type": type_, "version_id": version_id, "dedupe_key": dedupe_key,
                                              "change": change, "created_at": now})
        if not inserted:
            return None
        row = self._first(select(_events.c.id).where(_events.c.dedupe_key == dedupe_key))
        return int(row["id"]) if row else None

    def last_event(self, version_id: int) -> tuple[int, str] | None:
        """Id and change of the newest event of a version."""
        row = self._first(select(_events.c.id, _events.c.change).where(_events.c.version_id == version_id)
                          .order_by(_events.c.id.desc()).limit(1))
        return (int(row["id"]), str(row["change"])) if row else None

    def get(self, version_id: int) -> Version | None:
        """One version by id."""
        found = self.many([version_id])
        return found[0] if found else None

    def many(self, version_ids: Iterable[int]) -> list[Version]:
        """Versions by id, in the order of the ids."""
        wanted = list(version_ids)
        rows = self._in_parts(wanted, lambda ids: select(_versions).where(_versions.c.id.in_(ids)))
        found = {v.id: v for v in self._with_aliases(rows)}
        return [found[i] for i in wanted if i in found]

    def find(self, address: Address) -> list[Version]:
        """Versions that an address means: none, one, or several when a short digest is ambiguous."""
        where: list[ColumnElement[bool]] = [_versions.c.kind == address.kind]
        if address.project:
            where.append(_versions.c.project == address.project)
        if address.name:
            where.append(_versions.c.name == address.name)
        if address.digest:
            where.append(_versions.c.digest == address.digest)
        elif address.short:
            # A range is found in the index, LIKE is not; `g` comes after every hexadecimal digit.
            prefixes = [f"{algo}:{address.short}" for algo in ("git", "sha256", "ext")]
            where.append(or_(*(and_(_versions.c.digest >= p, _versions.c.digest < f"{p}g") for p in prefixes)))
        elif address.alias and (address.alias != "latest" or address.kind != "codeset"):
            where.append(_versions.c.id.in_(select(_aliases.c.version_id).where(_aliases.c.name == address.alias)))
        elif address.number:
            where.append(_versions.c.seq == address.number)
        else:
            return self._versions(*where, limit=1)
        return self._versions(*where)

    def current(self, kind: str, project: str, name: str) -> Version | None:
        """The version that stands for a name now: the tip of a codeset's default branch, else the latest."""
        row = self._first(select(_artifacts).where(
            _artifacts.c.kind == kind, _artifacts.c.project == project, _artifacts.c.name == name,
            _artifacts.c.deleted.is_(False)))
        if row is None:
            return None
        tip = self._first(select(_aliases.c.version_id).where(
            _aliases.c.artifact_id == row["id"], _aliases.c.name == (row["default_branch"] or "latest")))
        if tip:
            return self.get(int(tip["version_id"]))
        newest = self._first(select(_versions.c.id).where(_versions.c.artifact_id == row["id"])
                             .order_by(_versions.c.seq.desc()).limit(1))
        return self.get(int(newest["id"])) if newest else None

    def names(self, kind: str, project: str | None) -> list[dict[str, Any]]:
        """Names of a kind, in one project or in all, with default branch and creation time."""
        where = [_artifacts.c.kind == kind, _artifacts.c.deleted.is_(False)]
        if project is not None:
            where.append(_artifacts.c.project == project)
        rows = self._all(select(_artifacts).where(*where).order_by(_artifacts.c.project, _artifacts.c.name))
        return [dict(row) for row in rows]

    def page(self, *, kind: str = "", project: str = "", name: str = "", type_: str = "", limit: int = 100,
             before: tuple[float, int] | None = None) -> list[Version]:
        """Versions, newest first, keyset-paged by (created_at, id)."""
        where: list[ColumnElement[bool]] = []
        if kind:
            where.append(_versions.c.kind == kind)
        if project:
            where.append(_versions.c.project == project)
        if name:
            where.append(_versions.c.name == name)
        if type_:
            where.append(_versions.c.type == type_)
        if before:
            where.append(or_(_versions.c.created_at < before[0],
                             and_(_versions.c.created_at == before[0], _versions.c.id < before[1])))
        return self._versions(*where, limit=limit)

    def kept_in(self, prefix: str) -> list[tuple[str, str, int]]:
        """Project, kind and number of the versions that lie in stores whose name begins with `prefix`."""
        rows = self._all(select(_versions.c.project, _versions.c.kind, func.count().label("number")).where(
            _versions.c.store.startswith(prefix, autoescape=True)).group_by(_versions.c.project, _versions.c.kind)
            .order_by(_versions.c.project, _versions.c.kind))
        return [(str(row["project"]), str(row["kind"]), int(row["number"])) for row in rows]

    def mark_deleted(self, kind: str, project: str, name: str) -> bool:
        """Hide a name; its versions stay as records of lineage. Returns False if there was none."""
        return self._changed(update(_artifacts).where(
            _artifacts.c.kind == kind, _artifacts.c.project == project, _artifacts.c.name == name,
            _artifacts.c.deleted.is_(False)).values(deleted=True)) > 0

    def aliases_of(self, version_ids: Sequence[int]) -> dict[int, list[str]]:
        """Aliases by version id."""
        found: dict[int, list[str]] = {}
        rows = self._in_parts(version_ids, lambda ids: select(_aliases).where(
            _aliases.c.version_id.in_(ids)).order_by(_aliases.c.name))
        for row in rows:
            found.setdefault(int(row["version_id"]), []).append(row["name"])
        return found

    def touch_branch(self, artifact_id: int, branch: str, version_id: int) -> str:
        """Move a branch to a version and return the default branch of the codeset."""
        self.move_alias(artifact_id, branch, version_id, time.time())
        return self.default_branch(artifact_id, branch)

    def _versions(self, *where: ColumnElement[bool], limit: int = 1000) -> list[Version]:
        return self._with_aliases(self._all(select(_versions).where(*where).order_by(
            _versions.c.created_at.desc(), _versions.c.id.desc()).limit(limit)))

    def _with_aliases(self, rows: Sequence[RowMapping]) -> list[Version]:
        aliases = self.aliases_of([int(r["id"]) for r in rows])
        return [_version(row, aliases.get(int(row["id"]), [])) for row in rows]


def _version(row: RowMapping, aliases: list[str]) -> Version:
    return Version(
        id=row["id"], kind=row["kind"], project=row["project"], name=row["name"], digest=row["digest"],
        seq=row["seq"], type=row["type"], size=row["size"], location=row["location"], store=row["store"],
        aliases=tuple(aliases), labels=row["labels"], metadata=row["facets"], management=row["management"],
        created_at=row["created_at"], change=row["change"],
        producer=(row["producer_run"], row["producer_step"]) if row["producer_run"] else None)
