"""The built-in runnable store: runnables as OCI artifacts in a registry, `runnables/<project>/<name>`."""

from __future__ import annotations

import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fuseml_sdk import globs, hookimpl
from fuseml_sdk.contents import scan
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady, Retryable, Unsupported
from fuseml_sdk.types import (
    RUNNABLE,
    ArtifactDescriptor,
    ArtifactRef,
    FileListing,
    GarbageReport,
    Location,
    RegisterRequest,
    StoreDescription,
    StorePage,
    StoreQuery,
)

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.runnables import Remote

#: Where runnables lie in the registry.
PREFIX = "runnables/"
#: Seconds for which a collection spares a new runnable that the caller may not have recorded yet.
GRACE = 3600.0


class RunnableStore:
    """Implements the `store_` hooks over any OCI distribution registry.

    Configuration: `registry` is its base URL, `cache` a directory for unpacked runnables; `proxy` (URL) and
    `ca_bundle` (file) are for the way there.
    """

    def __init__(self) -> None:
        self._registry = self._proxy = self._ca_bundle = ""
        self._cache = Path()
        self._connection: RegistryClient | None = None
        self._recent: dict[str, float] = {}
        self._lock = threading.Lock()

    @hookimpl
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """See the contract. `cache` defaults to a directory in `state_dir`."""
        registry = config.get("registry")
        if not isinstance(registry, str) or not registry:
            raise InvalidInput("the runnable store needs `registry`", hint="set it to the base URL of an OCI registry")
        with self._lock:
            self._registry, self._connection = registry, None
            self._proxy, self._ca_bundle = str(config.get("proxy") or ""), str(config.get("ca_bundle") or "")
            self._cache = Path(config.get("cache") or Path(state_dir) / "cache").absolute()

    @hookimpl
    def fuseml_health(self) -> dict[str, Any]:
        """See the contract."""
        self._client().ping()
        return {"registry": self._registry}

    @hookimpl
    def fuseml_shutdown(self) -> None:
        """See the contract."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @hookimpl
    def store_describe(self) -> StoreDescription:
        """See the contract."""
        return StoreDescription(name="oci", kinds=[RUNNABLE], schemes=["oci", "file"],
                                capabilities=["register", "search", "delete", "files", "collect_garbage"])

    @hookimpl
    def store_register(self, request: RegisterRequest) -> ArtifactDescriptor:
        """See the contract. `source` is a `file:` directory with `runnable.json`."""
        from fuseml_oci import runnables

        repository = _repository(request.kind, request.project, request.name)
        if request.source is None:
            raise InvalidInput(f"runnable {request.project}/{request.name} has no source")
        try:
            with runnables.pack(_directory(request.source)) as packed:
                if request.digest and request.digest != packed.digest:
                    raise InvalidInput(f"runnable {request.project}/{request.name} has the digest {packed.digest}, "
                                       f"not {request.digest}")
                self._recent[packed.digest] = time.monotonic()
                runnables.push(self._client(), repository, packed)
        except OSError as error:
            raise Retryable(f"runnable {request.project}/{request.name} could not be packed: {error}",
                            hint="Make room on the disk with the temporary files.") from error
        ref = ArtifactRef(kind=RUNNABLE, project=request.project, name=request.name, digest=packed.digest)
        found = self.store_get(ref)
        return found.model_copy(update={
            "type": request.type or found.type, "aliases": request.aliases, "labels": request.labels,
            "metadata": {**request.metadata, **found.metadata}})

    @hookimpl
    def store_get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """See the contract. `digest` may be a tag of the repository."""
        if not ref.digest:
            raise InvalidInput(f"runnable {ref.project}/{ref.name}: a digest or tag is needed")
        return self._describe(ref.project, ref.name, self._look_up(ref))

    @hookimpl
    def store_search(self, query: StoreQuery) -> StorePage:
        """See the contract. Ordered by project, name and digest."""
        if query.kind not in ("", RUNNABLE):
            return StorePage(items=[])
        items: list[ArtifactDescriptor] = []
        after = tuple(query.cursor.split("/"))
        for project, name in self._names(query):
            for tag in self._versions(project, name):
                if (project, name, tag) <= after:
                    continue
                if len(items) == query.limit:
                    return StorePage(items=items, cursor=_position(items[-1]))
                try:
                    items.append(self.store_get(_ref(project, name, f"sha256:{tag}")))
                except NotFound:
                    continue  # deleted since the list was made
        return StorePage(items=items)

    @hookimpl
    def store_delete(self, ref: ArtifactRef) -> bool:
        """See the contract."""
        digests = [ref.digest] if ref.digest else [f"sha256:{tag}" for tag in self._versions(ref.project, ref.name)]
        deleted = [self._delete(ref.project, ref.name, digest) for digest in digests]
        return any(deleted)

    @hookimpl
    def store_locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """See the contract. `file:` is a verified copy in the cache, to be read only."""
        from fuseml_oci import runnables

        repository = _repository(ref.kind, ref.project, ref.name)
        for scheme in accepts:
            if scheme == "oci":
                return Location(uri=self._uri(repository, self._look_up(ref).digest))
            if scheme == "file":
                digest = ref.digest if ref.digest.startswith("sha256:") else self._look_up(ref).digest
                return Location(uri=runnables.fetch(self._client(), repository, digest, self._cache).as_uri())
        raise Unsupported(f"runnables can be fetched by oci: and file:, not by any of {accepts}")

    @hookimpl
    def store_files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """See the contract."""
        location = self.store_locate(ref, ["file"])
        root = _directory(location)
        files = scan(root)
        wanted = globs.select((f.path for f in files if f.size <= max_bytes), read) if read else []
        contents = {path: (root / path).read_bytes().decode(errors="replace") for path in wanted}
        return FileListing(files=files, contents=contents)

    @hookimpl
    def store_collect_garbage(self, keep: list[str], dry_run: bool) -> GarbageReport:
        """See the contract. What was registered within the last hour is spared.

        `bytes` is what the versions take up; the registry frees it when it collects blobs that nothing names.
        """
        kept, removed, size = {*keep, *self._young()}, list[str](), 0
        for project, name in self._names(StoreQuery()):
            for digest in [f"sha256:{tag}" for tag in self._versions(project, name)]:
                if digest in kept:
                    continue
                size += self.store_get(_ref(project, name, digest)).size or 0
                removed.append(digest)
                if not dry_run:
                    self._delete(project, name, digest)
        return GarbageReport(removed=removed, bytes=size)

    def _client(self) -> RegistryClient:
        from fuseml_oci.client import RegistryClient

        with self._lock:
            if not self._registry:
                raise NotReady("the runnable store is not configured yet")
            if self._connection is None:
                self._connection = RegistryClient.for_url(self._registry, proxy=self._proxy,
                                                          ca_bundle=self._ca_bundle)
            return self._connection

    def _look_up(self, ref: ArtifactRef) -> Remote:
        from fuseml_oci import runnables

        return runnables.look_up(self._client(), _repository(ref.kind, ref.project, ref.name), ref.digest)

    def _describe(self, project: str, name: str, remote: Remote) -> ArtifactDescriptor:
        repository = _repository(RUNNABLE, project, name)
        return ArtifactDescriptor(
            kind=RUNNABLE, project=project, name=name, digest=remote.digest, type=remote.descriptor.kind,
            size=remote.size, location=self._uri(repository, remote.digest),
            metadata={"descriptor": remote.descriptor.model_dump(mode="json")})

    def _uri(self, repository: str, digest: str) -> str:
        return f"oci://{self._client().registry}/{repository}@{digest}"

    def _names(self, query: StoreQuery) -> list[tuple[str, str]]:
        found = []
        for repository in self._client().repositories():
            project, _, name = repository.removeprefix(PREFIX).partition("/")
            if (repository.startswith(PREFIX) and name and query.project in ("", project)
                    and (not query.name or fnmatchcase(name, query.name))):
                found.append((project, name))
        return sorted(found)

    def _versions(self, project: str, name: str) -> list[str]:
        """Hexadecimal digests of all versions, which are also their tags."""
        try:
            tags = self._client().tags(_repository(RUNNABLE, project, name))
        except NotFound:
            return []
        return sorted(tag for tag in tags if len(tag) == 64)

    def _delete(self, project: str, name: str, digest: str) -> bool:
        """Delete the manifest of one version and its cached copy; the registry frees blobs that nothing needs."""
        from fuseml_oci import runnables

        client, repository = self._client(), _repository(RUNNABLE, project, name)
        try:
            remote = runnables.look_up(client, repository, digest)
        except NotFound:
            return False
        client.delete_manifest(repository, remote.digest)
        runnables.forget(self._cache, remote.digest)
        return True

    def _young(self) -> list[str]:
        limit = time.monotonic() - GRACE
        self._recent = {digest: at for digest, at in self._recent.copy().items() if at > limit}
        return list(self._recent)


def _repository(kind: str, project: str, name: str) -> str:
    from fuseml_oci.reference import check_repository

    if kind != RUNNABLE:
        raise Unsupported(f"this store keeps runnables, not {kind}")
    return check_repository(f"{PREFIX}{project}/{name}")


def _ref(project: str, name: str, digest: str) -> ArtifactRef:
    return ArtifactRef(kind=RUNNABLE, project=project, name=name, digest=digest)


def _position(item: ArtifactDescriptor) -> str:
    return f"{item.project}/{item.name}/{item.digest.partition(':')[2]}"


def _directory(location: Location) -> Path:
    parts = urlsplit(location.uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidInput(f"{location.uri} is not a file: URI of this machine")
    return Path(unquote(parts.path))


plugin = RunnableStore()
