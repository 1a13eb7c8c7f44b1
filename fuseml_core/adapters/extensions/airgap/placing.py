"""Putting imported bundles into the embedded registry: exact bytes, with everything that refers to them."""

from __future__ import annotations

from fuseml_core.adapters.extensions.airgap.contents import Contents
from fuseml_core.adapters.extensions.airgap.document import ExportedBundle
from fuseml_oci.bundles.references import NAMESPACE
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import LayoutEntry, copy
from fuseml_oci.reference import Reference


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
