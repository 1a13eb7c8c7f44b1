"""Descriptors beside the contents, so that the store can answer for itself; the core's index is the one that counts."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from pathlib import Path

from fuseml_files.layout import CONTENTS, DIGEST, KINDS, MANIFEST, Layout, read_json
from fuseml_sdk.contents import EXECUTABLE, FILE_PATH
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.types import ArtifactDescriptor, ArtifactRef, FileEntry, StorePage, StoreQuery


class Index:
    """One small JSON file for each version of each name."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def put(self, descriptor: ArtifactDescriptor) -> ArtifactDescriptor:
        """Keep a descriptor; one that is there already for the same name and contents stays and is returned."""
        folder = self.layout.entries(descriptor.kind, descriptor.project, descriptor.name)
        path = folder / f"{descriptor.digest.removeprefix('sha256:')}.json"
        if path.is_file():
            return _read(path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, descriptor.model_dump_json(exclude={"files"}).encode())
        return descriptor

    def get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """Return the descriptor of one version, given in full or by at least 7 hex digits.

        Raises:
            InvalidInput: A name is none, or the digits name several versions.
            NotFound: There is no such version.
        """
        text = ref.digest.removeprefix("sha256:")
        folder = self.layout.entries(ref.kind, ref.project, ref.name)
        found = [p for p in sorted(folder.glob("*.json")) if len(text) >= 7 and p.stem.startswith(text)]
        if not found:
            raise NotFound(f"there is no {ref.kind} {ref.project}/{ref.name} with the digest {ref.digest!r}")
        if len(found) > 1:
            raise InvalidInput(f"{ref.digest!r} names {len(found)} versions of {ref.project}/{ref.name}",
                               hint="Give more digits.")
        return _read(found[0])

    def remove(self, ref: ArtifactRef) -> list[str]:
        """Forget one version, or all of a name when the digest is empty. Returns the digests."""
        folder = self.layout.entries(ref.kind, ref.project, ref.name)
        pattern = f"{ref.digest.removeprefix('sha256:')}.json" if ref.digest else "*.json"
        if ref.digest and not DIGEST.fullmatch(ref.digest):
            raise InvalidInput(f"{ref.digest!r} is not of the form sha256:<64 hex>")
        removed = []
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
            removed.append(f"sha256:{path.stem}")
        return removed

    def remove_digest(self, digest: str) -> None:
        """Forget every version with these contents."""
        for path in self._named(digest):
            path.unlink(missing_ok=True)

    def knows(self, digest: str) -> bool:
        """Whether any name has a version with these contents."""
        return next(self._named(digest), None) is not None

    def search(self, query: StoreQuery) -> StorePage:
        """Return descriptors that match, in the order of kind, project, name and digest."""
        items: list[ArtifactDescriptor] = []
        for key, path in self._all(query):
            if len(items) == query.limit:
                return StorePage(items=items, cursor=_key(items[-1]))
            if key > query.cursor:
                items.append(_read(path))
        return StorePage(items=items)

    def _all(self, query: StoreQuery) -> Iterator[tuple[str, Path]]:
        root = self.layout.root / "index"
        wanted = [kind for kind in KINDS if query.kind in ("", kind)]
        paths = (p for kind in wanted for p in root.glob(f"{kind}/*/*/*.json"))
        for key, path in sorted(("/".join([*p.parts[-4:-1], p.stem]), p) for p in paths):
            _, project, name, _ = key.split("/")
            if (query.project in ("", project)) and (not query.name or fnmatch.fnmatchcase(name, query.name)):
                yield key, path

    def _named(self, digest: str) -> Iterator[Path]:
        return (self.layout.root / "index").glob(f"*/*/*/{digest.removeprefix('sha256:')}.json")


def read_files(layout: Layout, digest: str) -> list[FileEntry]:
    """Return the files of contents, as their manifest lists them.

    Raises:
        NotFound: The contents are not here.
    """
    manifest = read_json(layout.place(digest) / MANIFEST)
    if manifest is None or not layout.holds(digest):
        raise NotFound(f"the contents {digest} are not here any more")
    layers = manifest["layers"]
    assert isinstance(layers, list)
    return [FileEntry(path=layer["annotations"][FILE_PATH], size=layer["size"], digest=layer["digest"],
                      executable=EXECUTABLE in layer["annotations"]) for layer in layers]


def read_texts(layout: Layout, digest: str, files: list[FileEntry]) -> dict[str, str]:
    """Return the text of some files."""
    folder = layout.place(digest) / CONTENTS
    return {f.path: (folder / f.path).read_bytes().decode("utf-8", "replace") for f in files}


def _read(path: Path) -> ArtifactDescriptor:
    return ArtifactDescriptor.model_validate_json(path.read_bytes())


def _key(descriptor: ArtifactDescriptor) -> str:
    return "/".join([descriptor.kind, descriptor.project, descriptor.name, descriptor.digest.removeprefix("sha256:")])
