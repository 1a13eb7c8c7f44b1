"""Putting imported bundles into the embedded registry: exact bytes, with everything that refers to them."""

from __future__ import annotations

from fuseml_core.adapters.extensions.airgap.contents import Contents
from fuseml_core.adapters.extensions.airgap.document import ExportedBundle, ExportedCatalog
from fuseml_oci import media
from fuseml_oci.bundles.references import NAMESPACE
from fuseml_oci.catalog.publish import LATEST
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import LayoutEntry, copy
from fuseml_oci.descriptor import read_object
from fuseml_oci.reference import Reference
from fuseml_sdk.errors import NotFound

#: Where imported catalogs lie in the embedded registry.
CATALOGS = "marketplaces"


def place(contents: Contents, bundle: ExportedBundle, client: RegistryClient) -> str:
    """Copy a bundle to `extensions/<name>` of the embedded registry; what is there is not sent again.

    A version that the registry has with other contents keeps its tag, because versions are immutable: the bundle can
    then be had by its digest only.

    Returns:
        The tag it has now; empty for none.
    """
    repository = f"{NAMESPACE}/{bundle.name}"
    copy(LayoutEntry(contents.folder, bundle.digest), Reference(client.registry, repository, digest=bundle.digest),
         connect=lambda _reference: client)
    if not client.has_manifest(repository, bundle.version):
        client.tag(repository, bundle.digest, bundle.version)
    return bundle.version if client.resolve(repository, bundle.version).digest == bundle.digest else ""


def place_catalog(contents: Contents, catalog: ExportedCatalog, client: RegistryClient) -> str:
    """Copy a catalog to `marketplaces/<name>` of the embedded registry; its tag never goes back to an older one.

    Nothing is believed of it here: who subscribes to it says whose signature counts.

    Returns:
        The repository.
    """
    repository = f"{CATALOGS}/{catalog.name}"
    copy(LayoutEntry(contents.folder, catalog.digest), Reference(client.registry, repository, digest=catalog.digest),
         connect=lambda _reference: client)
    try:
        there = _version(client.get_manifest(repository, LATEST)[0])
    except NotFound:
        there = -1
    if _version(contents.source.manifest(catalog.digest)) > there:
        client.tag(repository, catalog.digest, LATEST)
    return repository


def _version(index: bytes) -> int:
    """The version that a catalog says it has; 0 if it says none."""
    annotations = read_object(index, "the catalog").get("annotations")
    text = annotations.get(media.CATALOG_VERSION, "") if isinstance(annotations, dict) else ""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 19 else 0
