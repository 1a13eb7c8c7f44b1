"""Reading a published catalog from wherever it lies; nothing is believed that does not hang on its digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fuseml_oci import media
from fuseml_oci.catalog.format import (
    MAX_DOCUMENT,
    Blob,
    Document,
    History,
    Namespaces,
    Node,
    Package,
    Root,
    decode,
)
from fuseml_oci.catalog.tree import find, walk
from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent


class Documents(Protocol):
    """Where manifests and blobs come from; every `ManifestSource` is one."""

    def manifest(self, digest: str) -> bytes:
        """Bytes of a manifest or image index."""
        ...

    def blob(self, descriptor: Descriptor) -> bytes:
        """Bytes of a blob."""
        ...


@dataclass(frozen=True, slots=True)
class Catalog:
    """One published state of a catalog, read when asked.

    Attributes:
        digest: Of its image index.
        root: Its root document.
        documents: Where the others are.
    """

    digest: str
    root: Root
    documents: Documents

    def entries(self) -> Iterator[tuple[str, Blob]]:
        """Name and document of each package, in the order of their hashes."""
        yield from walk(self.root.tree, lambda blob: self.read(Node, blob))

    def names(self) -> list[str]:
        """Names of all packages, sorted."""
        return sorted(name for name, _ in self.entries())

    def package(self, name: str) -> Package | None:
        """One package."""
        blob = find(self.root.tree, name, lambda node: self.read(Node, node))
        return None if blob is None else self.read_package(name, blob)

    def packages(self) -> Iterator[Package]:
        """All packages, in the order of their names."""
        for name, blob in sorted(self.entries()):
            yield self.read_package(name, blob)

    def namespaces(self) -> Namespaces:
        """Who may publish where."""
        return self.read(Namespaces, self.root.namespaces)

    def history(self, package: Package) -> History | None:
        """What was decided about a package."""
        return None if package.history is None else self.read(History, package.history)

    def read_package(self, name: str, blob: Blob) -> Package:
        """The document of a package that the tree lists."""
        return check_package(self.read(Package, blob), name)

    def read(self, model: type[Document], blob: Blob) -> Document:
        """One document, verified."""
        data = self.documents.blob(Descriptor(media.CATALOG_DOCUMENT, blob.digest, blob.size))
        return decode(model, verified(data, blob, self.root.name), f"{model.__name__} {blob.digest} of the catalog")


def open_catalog(documents: Documents, digest: str) -> Catalog:
    """Read the head of a catalog: image index, root manifest, root document.

    Args:
        documents: Where they lie.
        digest: Of the image index; whether it is to be believed is the caller's business.

    Raises:
        NotFound: Something is missing.
        InvalidInput: It is not a catalog.
        Permanent: Bytes do not have their digest.
    """
    what = f"the catalog {digest}"
    config = root_descriptor(documents, digest)
    blob = Blob(digest=config.digest, size=config.size)
    return Catalog(digest, decode(Root, verified(documents.blob(config), blob, what), f"the root of {what}"), documents)


def root_descriptor(documents: Documents, digest: str) -> Descriptor:
    """Where the root document of a catalog is; see :func:`open_catalog`."""
    what = f"the catalog {digest}"
    index = read_object(_checked(documents.manifest(digest), digest, what), what)
    if index.get("artifactType") != media.CATALOG:
        raise InvalidInput(f"{what} is no catalog: its artifact type is {str(index.get('artifactType'))[:100]!r}")
    entries = index.get("manifests")
    roots = [read_descriptor(entry, f"an entry of {what}") for entry in (entries if isinstance(entries, list) else [])
             if isinstance(entry, dict) and entry.get("artifactType") == media.CATALOG_ROOT]
    if len(roots) != 1:
        raise InvalidInput(f"{what} has {len(roots)} roots instead of one")
    where = f"the root manifest of {what}"
    manifest = read_object(_checked(_manifest(documents, roots[0]), roots[0].digest, where), where)
    config = read_descriptor(manifest.get("config"), f"the config of {where}")
    if config.media_type != media.CATALOG_ROOT or config.size > MAX_DOCUMENT or not config.digest.startswith("sha256:"):
        raise InvalidInput(f"{where} has no root document of at most {MAX_DOCUMENT} bytes")
    return config


def check_package(package: Package, name: str) -> Package:
    """Return the package if it is the one that was listed.

    Raises:
        InvalidInput: It has another name.
    """
    if package.name != name:
        raise InvalidInput(f"the catalog lists {name}, and the document is about {package.name}")
    return package


def verified(data: bytes, blob: Blob, what: str) -> bytes:
    """Return the bytes if they are the ones named.

    Raises:
        Permanent: They are others.
    """
    if len(data) != blob.size or digest_bytes(data) != blob.digest:
        raise Permanent(f"{what}: a document does not have the digest {blob.digest}",
                        hint="Something changed it on the way or in the registry; nothing was kept.")
    return data


def _manifest(documents: Documents, descriptor: Descriptor) -> bytes:
    """A manifest inside the index; image layouts know those only as blobs."""
    try:
        return documents.manifest(descriptor.digest)
    except NotFound:
        return documents.blob(descriptor)


def _checked(data: bytes, digest: str, what: str) -> bytes:
    if digest_bytes(data, digest.partition(":")[0]) != digest:
        raise Permanent(f"{what} does not have its digest", hint="Something changed it; nothing was kept.")
    return data
