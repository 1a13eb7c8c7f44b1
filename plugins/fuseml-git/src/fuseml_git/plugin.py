"""The artifact store for codesets."""

from __future__ import annotations

import fnmatch
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fuseml_git import commits, repositories, trees
from fuseml_git.git import environment, executable
from fuseml_git.journal import Journal
from fuseml_git.refs import branches
from fuseml_git.repositories import Repository
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady, Unsupported
from fuseml_sdk.types import (
    CODESET,
    ArtifactDescriptor,
    ArtifactRef,
    FileListing,
    Location,
    RegisterRequest,
    StoreDescription,
    StoreEvents,
    StorePage,
    StoreQuery,
)

#: Seconds between two looks at the journal while waiting, and between two comparisons of journal and refs.
POLL = 0.25
COMPARE_INTERVAL = 60.0
#: Seconds of one wait. A server that stops waits for calls in flight, and asking again costs one look at a file's size.
LONGEST_WAIT = 1.0


class GitStore:
    """Keeps codesets in bare git repositories; a version is a commit."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._base_url = ""
        self._compared_at = float("-inf")

    @hookimpl
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """Take `root` (directory of the repositories) and `base_url` (of the data process; may be empty)."""
        self._root = Path(config.get("root") or state_dir).absolute()
        self._base_url = str(config.get("base_url") or "").rstrip("/")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment(self._root)
        repositories.sweep(self._root)

    @hookimpl
    def fuseml_health(self) -> dict[str, Any]:
        """Say which git is used and where."""
        return {"git": executable(), "root": str(self._directory())}

    @hookimpl
    def store_describe(self) -> StoreDescription:
        """Describe the store."""
        schemes = ["git+file", *(["git+http"] if self._base_url else [])]
        return StoreDescription(name="git", kinds=[CODESET], schemes=schemes,
                                capabilities=["register", "search", "delete", "events", "files"])

    @hookimpl
    def store_register(self, request: RegisterRequest) -> ArtifactDescriptor:
        """Describe a commit that was pushed; with neither digest nor source, make the repository.

        The descriptor of a repository alone has an empty digest; `metadata["clone_url"]` says where to push.
        """
        _only_codesets(request.kind)
        if request.source is not None:
            raise InvalidInput("a codeset is registered by its commit, not by a source", hint="Push it with git.")
        if not request.digest:
            return self._repository_descriptor(repositories.create(self._directory(), request.project, request.name))
        repository = self._find(request.project, request.name)
        commit = commits.resolve(repository, request.digest)
        commits.keep(repository, commit)
        found = commits.describe(repository, commit, files=True)
        return found.model_copy(update={
            "type": request.type, "labels": request.labels, "metadata": {**request.metadata, **found.metadata}})

    @hookimpl
    def store_get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """Describe a commit, given in full, shortened, or by a branch or tag; without digest, the repository."""
        _only_codesets(ref.kind)
        repository = self._find(ref.project, ref.name)
        if not ref.digest:
            return self._repository_descriptor(repository)
        return commits.describe(repository, commits.resolve(repository, ref.digest))

    @hookimpl
    def store_search(self, query: StoreQuery) -> StorePage:
        """Return the tips of branches, repository by repository; the limit is rounded up to a whole repository."""
        items: list[ArtifactDescriptor] = []
        if query.kind not in ("", CODESET):
            return StorePage(items=items)
        for repository in repositories.all_repositories(self._directory()):
            key = (repository.project, repository.name)
            if (query.cursor and key <= tuple(query.cursor.split("/"))) or not _wanted(repository, query):
                continue
            items.extend(commits.describe(repository, c) for c in sorted(set(branches(repository.path).values())))
            if len(items) >= query.limit:
                return StorePage(items=items, cursor="/".join(key))
        return StorePage(items=items)

    @hookimpl
    def store_delete(self, ref: ArtifactRef) -> bool:
        """Delete a whole repository. One commit cannot be deleted: others are built on it."""
        _only_codesets(ref.kind)
        if ref.digest:
            raise Unsupported("one version of a codeset cannot be deleted", hint="Delete the whole codeset.")
        try:
            repository = self._find(ref.project, ref.name)
        except NotFound:
            return False
        repositories.delete(repository)
        return True

    @hookimpl
    def store_locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """Hand out `git+file:` or `git+http:` for a commit, in the order of `accepts`."""
        repository = self._find(ref.project, ref.name)
        commit = commits.resolve(repository, ref.digest)
        for scheme in accepts:
            if scheme == "git+file":
                return Location(uri=commits.location(repository, commit))
            if scheme == "git+http" and self._base_url:
                return Location(uri=f"git+{self._clone_url(repository)}?commit={commit}")
        raise Unsupported(f"codesets cannot be handed out as any of {', '.join(accepts) or 'nothing'}",
                          hint="An agent must accept git+file or git+http.")

    @hookimpl
    def store_files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """List the files of a commit, with the text of those that match."""
        repository = self._find(ref.project, ref.name)
        return trees.read_listing(repository, commits.resolve(repository, ref.digest), read, max_bytes)

    @hookimpl
    def store_events(self, cursor: str, wait: float) -> StoreEvents:
        """Return what was pushed since the cursor, whoever pushed it.

        `created`: a branch has a new tip. `alias-moved`: a tag was set, or (with an empty digest) a branch or tag was
        deleted; its versions stay.
        """
        journal = Journal(self._directory())
        if time.monotonic() - self._compared_at > COMPARE_INTERVAL:
            journal.complete()
            self._compared_at = time.monotonic()
        size = journal.size()
        if not cursor.isdigit() or int(cursor) > size:
            return StoreEvents(events=journal.tips(), cursor=str(size))
        until = time.monotonic() + min(max(wait, 0.0), LONGEST_WAIT)
        offset = int(cursor)
        while True:
            if journal.size() > offset:
                events, offset = journal.read(offset)
                if events:
                    return StoreEvents(events=events, cursor=str(offset))
            if time.monotonic() >= until:
                return StoreEvents(cursor=str(offset))
            time.sleep(POLL)

    def _directory(self) -> Path:
        if self._root is None:
            raise NotReady("the git store has not been configured")
        return self._root

    def _find(self, project: str, name: str) -> Repository:
        return repositories.find(self._directory(), project, name)

    def _clone_url(self, repository: Repository) -> str:
        return f"{self._base_url}/git/{quote(repository.project)}/{quote(repository.name)}.git"

    def _repository_descriptor(self, repository: Repository) -> ArtifactDescriptor:
        local = str(repository.path)
        return ArtifactDescriptor(
            kind=CODESET, project=repository.project, name=repository.name, digest="",
            location=commits.location(repository), aliases=sorted(branches(repository.path)),
            metadata={"clone_url": self._clone_url(repository) if self._base_url else local, "path": local})


def _only_codesets(kind: str) -> None:
    if kind != CODESET:
        raise InvalidInput(f"the git store keeps codesets, not {kind}s")


def _wanted(repository: Repository, query: StoreQuery) -> bool:
    return ((not query.project or repository.project == query.project)
            and (not query.name or fnmatch.fnmatchcase(repository.name, query.name)))


#: The plugin; its host makes one object of it.
plugin = GitStore
