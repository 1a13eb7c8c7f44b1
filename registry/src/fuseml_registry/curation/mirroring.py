"""Copying a catalog with its bundles to another registry, byte for byte, so that both signatures and digests hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fuseml_oci import media
from fuseml_oci.catalog.format import API_VERSION, Package, PackageVersion, Relocation
from fuseml_oci.catalog.publish import LATEST
from fuseml_oci.catalog.reading import Catalog
from fuseml_oci.catalog.relocation import push_relocation, read_relocation, signed_by
from fuseml_oci.copying import copy
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.sources import RepositorySource
from fuseml_registry.curation.publishing import present
from fuseml_registry.curation.reviewing import Surroundings
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent


@dataclass(frozen=True, slots=True)
class Mirror:
    """What to copy, and where to.

    Attributes:
        source: The catalog.
        target: The repository for the copy of the catalog.
        bundles: Where bundles go: each to `<bundles>/<name>`.
        keys: The curators' keys; the catalog must be signed by one.
        only: Names of packages whose bundles are copied; all if empty.
        sign: Signs the reference that it is given, with the mirror's key.
    """

    source: Reference
    target: Reference
    bundles: Reference
    keys: Sequence[PublicKey]
    only: Collection[str] = ()
    sign: Callable[[Reference], None] | None = None


def mirror(wanted: Mirror, around: Surroundings) -> dict[str, Any]:
    """Copy a catalog and its bundles. What is there already is not copied again, so it can be run again at any time.

    The catalog's own bytes and signatures stay; where the bundles are now is a document beside it, signed by the
    mirror if it has a key. Subscribers may pin the curators' key or the mirror's.

    Args:
        wanted: What to copy, and where to.
        around: What is needed of the world.

    Returns:
        `reference` of the mirrored catalog, `version`, `packages`, `copied` and `present` bundles.

    Raises:
        Permanent: The catalog is not signed by the given keys.
        NotFound: A bundle is missing, or a package that was named.
    """
    reader = around.connect(wanted.source)
    source = RepositorySource(reader, wanted.source.repository)
    catalog = present(reader, wanted.source)
    if not signed_by(source, wanted.keys)(catalog.digest):
        raise Permanent(f"{wanted.source}: the catalog {catalog.digest} is not signed by the given keys",
                        hint="Nothing was copied. Ask its curators for their public key.")
    moved = read_relocation(source, catalog.digest, wanted.keys, wanted.source.registry)
    packages = [package for package in catalog.packages() if not wanted.only or package.name in wanted.only]
    if missing := set(wanted.only) - {package.name for package in packages}:
        raise NotFound(f"the catalog has no package {', '.join(sorted(missing))}")
    copied = present_before = 0
    for number, (package, version) in enumerate(jobs := list(_jobs(packages)), start=1):
        around.progress(f"{number} of {len(jobs)}: {package.name} {version.version}")
        if _bundle(wanted, package, version, moved, around):
            copied += 1
        else:
            present_before += 1
    target = _catalog(wanted, catalog, packages, around)
    return {"reference": str(target), "version": catalog.root.version, "packages": len(packages), "copied": copied,
            "present": present_before}


def _jobs(packages: Sequence[Package]) -> Iterator[tuple[Package, PackageVersion]]:
    for package in packages:
        for version in package.versions:
            if version.yanked is None:
                yield package, version


def _bundle(wanted: Mirror, package: Package, version: PackageVersion, moved: dict[str, str],
            around: Surroundings) -> bool:
    place = parse(moved.get(package.repository, package.repository)).with_digest(version.digest)
    target = _target(wanted, package).with_tag(version.version)
    writer = around.connect(target)
    before = writer.get_manifest(target.repository, target.tag)[2] \
        if writer.has_manifest(target.repository, target.tag) else ""
    if before not in ("", version.digest):
        raise InvalidInput(f"{target} holds another bundle ({before[:19]}…) than the catalog names",
                           hint="Mirror to a namespace of its own.")
    copy(place, target, connect=around.connect)  # also what is there: it may have got signatures since
    return not before


def _catalog(wanted: Mirror, catalog: Catalog, packages: Sequence[Package], around: Surroundings) -> Reference:
    pinned = wanted.target.with_digest(catalog.digest)
    writer = around.connect(wanted.target)
    around.progress("copying the catalog")
    copy(wanted.source.with_digest(catalog.digest), pinned, connect=around.connect)
    relocation = Relocation(api_version=API_VERSION, catalog=catalog.digest, repositories={
        package.repository: str(_target(wanted, package)) for package in packages})
    push_relocation(writer, pinned, relocation, wanted.sign)
    if wanted.sign is not None:
        wanted.sign(pinned)
    index = catalog.documents.manifest(catalog.digest)
    for tag in (str(catalog.root.version), LATEST):  # last, so that nobody sees a catalog without its bundles
        writer.push_manifest(wanted.target.repository, tag, index, media.INDEX)
    return wanted.target.with_tag(LATEST).with_digest(catalog.digest)


def _target(wanted: Mirror, package: Package) -> Reference:
    return Reference(wanted.bundles.registry, f"{wanted.bundles.repository}/{package.name}")
