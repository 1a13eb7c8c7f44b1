"""The artifact store for models and datasets."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fuseml_files.index import Index, read_files, read_texts
from fuseml_files.intake import take_in
from fuseml_files.layout import CONTENTS, KINDS, Layout
from fuseml_files.removal import discard, remove_tree, size_of
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import InvalidInput, NotReady, Retryable, Unsupported
from fuseml_sdk.globs import matches
from fuseml_sdk.types import (
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

#: Seconds for which new contents are not garbage, even if nobody names them yet.
GARBAGE_AGE = 3600.0


class FileStore:
    """Keeps models and datasets as directories named by the digest of their contents."""

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._owned: list[Path] = []
        self._garbage_age = GARBAGE_AGE

    @hookimpl
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """Take the configuration.

        `root`: directory of the store. `take_over`: directories from which contents may be moved instead of copied (by
        default the process agent's, `work` beside the root). `garbage_age`: seconds for which new contents are kept.
        """
        root = Path(config.get("root") or state_dir).absolute()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "sha256").mkdir(mode=0o700, exist_ok=True)
        self._owned = [Path(path) for path in config.get("take_over") or [root.parent / "work"]]
        self._garbage_age = float(config.get("garbage_age", GARBAGE_AGE))
        self._layout = Layout(root)
        remove_tree(root / "trash")

    @hookimpl
    def fuseml_health(self) -> dict[str, Any]:
        """Say where contents lie and how many bytes are free there."""
        root = self._require().root
        space = os.statvfs(root)
        return {"root": str(root), "free": space.f_bavail * space.f_frsize}

    @hookimpl
    def store_describe(self) -> StoreDescription:
        """Describe the store."""
        return StoreDescription(name="files", kinds=list(KINDS), schemes=["file"],
                                capabilities=["register", "search", "delete", "files", "collect_garbage"])

    @hookimpl
    def store_register(self, request: RegisterRequest) -> ArtifactDescriptor:
        """Take over a directory (`file:`); equal contents are stored once."""
        layout = self._require()
        layout.entries(request.kind, request.project, request.name)
        source = _directory(request.source)
        try:
            digest, files = take_in(layout, request.kind, source, request.files, request.digest, self._owned)
        except OSError as error:
            raise Retryable(f"the contents of {source} could not be stored: {_reason(error)}",
                            hint=f"Make room on the disk of {layout.root}, or look at its permissions.") from error
        descriptor = ArtifactDescriptor(
            kind=request.kind, project=request.project, name=request.name, digest=digest, type=request.type,
            size=sum(f.size for f in files), location=(layout.place(digest) / CONTENTS).as_uri(),
            aliases=request.aliases, labels=request.labels, metadata=request.metadata)
        return Index(layout).put(descriptor).model_copy(update={"files": files})

    @hookimpl
    def store_get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """Return the descriptor of a version as it was registered."""
        return Index(self._require()).get(ref)

    @hookimpl
    def store_search(self, query: StoreQuery) -> StorePage:
        """Return descriptors in the order of kind, project, name and digest."""
        return Index(self._require()).search(query)

    @hookimpl
    def store_delete(self, ref: ArtifactRef) -> bool:
        """Delete a version or a name; contents that no other name has are removed."""
        layout = self._require()
        index = Index(layout)
        removed = index.remove(ref)
        for digest in removed:
            if not index.knows(digest):
                discard(layout, layout.place(digest))
        return bool(removed)

    @hookimpl
    def store_locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """Hand out the directory; consumers read it in place and cannot write to it."""
        if "file" not in accepts:
            raise Unsupported(f"this store hands out file: only, not {', '.join(accepts) or 'nothing'}",
                              hint="An agent on another machine needs a store that it can reach, such as S3.")
        descriptor = self.store_get(ref)
        read_files(self._require(), descriptor.digest)
        return Location(uri=(self._require().place(descriptor.digest) / CONTENTS).as_uri())

    @hookimpl
    def store_files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """List the files of a version, with the text of those that match."""
        layout, digest = self._require(), self.store_get(ref).digest
        files = read_files(layout, digest)
        wanted = [f for f in files if read and f.size <= max_bytes and matches(f.path, read)]
        return FileListing(files=files, contents=read_texts(layout, digest, wanted))

    @hookimpl
    def store_collect_garbage(self, keep: list[str], dry_run: bool) -> GarbageReport:
        """Remove contents that nobody keeps, unless they are new: their registration may be under way."""
        layout = self._require()
        kept, newest = set(keep), time.time() - self._garbage_age
        removed, freed = [], 0
        for digest, place in layout.places():
            if digest in kept or place.stat().st_mtime > newest:
                continue
            size = size_of(place)
            if not dry_run:
                gone = layout.take_away(place, newest, partial(Index(layout).remove_digest, digest))
                if gone is None:
                    continue
                remove_tree(gone)
            removed.append(digest)
            freed += size
        return GarbageReport(removed=removed, bytes=freed)

    def _require(self) -> Layout:
        if self._layout is None:
            raise NotReady("the file store has not been configured")
        return self._layout


def _directory(source: Location | None) -> Path:
    """Read the directory out of a `file:` location."""
    parts = urlsplit(source.uri if source else "")
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.is_absolute():
        raise InvalidInput(f"the source {source.uri if source else ''!r} is not a directory on this machine",
                           hint="Give a location of the form file:///directory.")
    return path


def _reason(error: OSError) -> str:
    """The reason alone; copying a tree collects one for each file."""
    collected = error.args[0] if isinstance(error, shutil.Error) and error.args else None
    return str(collected[0][2]) if isinstance(collected, list) and collected else str(error)


#: The plugin; its host makes one object of it.
plugin = FileStore
