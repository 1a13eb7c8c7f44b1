"""From the folder to the registry and back: publish, compare with what is published, take over what is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fuseml_oci.catalog.contents import CatalogArtifact, Contents, assemble
from fuseml_oci.catalog.format import moment
from fuseml_oci.catalog.publish import Progress, Published, publish, published
from fuseml_oci.catalog.reading import Catalog
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference
from fuseml_registry.curation.comparing import Change, compare, compare_namespaces
from fuseml_registry.curation.workspace import CatalogSettings, Publication, Workspace
from fuseml_sdk.errors import InvalidInput, NotFound


def publish_folder(workspace: Workspace, client: RegistryClient, sign: Callable[[Reference], None], *, by: str,
                   now: datetime, progress: Progress | None = None) -> Published:
    """Publish what the folder says.

    Args:
        workspace: The catalog.
        client: For the registry of its reference.
        sign: Signs the reference that it is given.
        by: Who publishes.
        now: The time.
        progress: Told what is being sent.

    Raises:
        InvalidInput: Somebody else published since this folder last knew, or the folder contradicts itself.
    """
    with workspace.alone():
        contents, place = workspace.contents(), workspace.settings.place
        _check_whole(contents)
        before, known = published(client, place.repository), workspace.published()
        artifact = _artifact(workspace, contents, max(before.root.version if before else 0,
                                                      known.version if known else 0) + 1, now)
        _check_known(before, known, artifact, place)
        done = publish(artifact, place, client, sign, progress)
        workspace.save_published(Publication(version=done.version, digest=artifact.digest, at=moment(now), by=by))
    return done


def difference(workspace: Workspace, client: RegistryClient) -> dict[str, Any]:
    """What publishing would change.

    Returns:
        `published` (version, 0 if nothing is), `known` (version that the folder knows of) and `changes`.
    """
    before, known = published(client, workspace.settings.place.repository), workspace.published()
    contents = workspace.contents()
    old = {package.name: package for package in before.packages()} if before else {}
    changes: list[Change] = compare(old, dict(contents.packages))
    if before is not None:
        changes += compare_namespaces(before.namespaces(), contents.namespaces)
    return {"published": before.root.version if before else 0, "known": known.version if known else 0,
            "expires": before.root.expires if before else "", "changes": [change.to_dict() for change in changes]}


def take_over(folder: Path, catalog: Catalog, reference: Reference, *, by: str, now: datetime) -> Workspace:
    """Make the folder of a catalog from what is published, such as when nobody kept it.

    Args:
        folder: To make.
        catalog: What is published; its signature is the caller's business.
        reference: Where.
        by: Who takes it over.
        now: The time.
    """
    place = f"oci://{reference.registry}/{reference.repository}"
    workspace = Workspace.create(folder, CatalogSettings(name=catalog.root.name, summary=catalog.root.summary,
                                                         reference=place))
    for package in catalog.packages():
        history = catalog.history(package)
        if history is not None:
            workspace.save_history(history)
        workspace.save_package(package)
    workspace.save_namespaces(catalog.namespaces())
    workspace.save_published(Publication(version=catalog.root.version, digest=catalog.digest, at=moment(now), by=by))
    return workspace


def present(client: RegistryClient, reference: Reference) -> Catalog:
    """The catalog at a reference.

    Raises:
        NotFound: There is none.
    """
    catalog = published(client, reference.repository)
    if catalog is None:
        raise NotFound(f"there is no catalog at {reference}", hint="Check the reference, or publish it first.")
    return catalog


def _artifact(workspace: Workspace, contents: Contents, version: int, now: datetime) -> CatalogArtifact:
    settings = workspace.settings
    return assemble(contents, name=settings.name, summary=settings.summary, version=version, issued=moment(now),
                    expires=moment(now + timedelta(days=settings.valid_days)))


def _check_whole(contents: Contents) -> None:
    spaces = {entry.name for entry in contents.namespaces.namespaces}
    for package in contents.packages.values():
        if package.namespace not in spaces:
            raise InvalidInput(f"the package {package.name} belongs to the namespace {package.namespace!r}, which "
                               "does not exist", hint=f"Make it: fuseml catalog owner {package.namespace} NAME")


def _check_known(before: Catalog | None, known: Publication | None, artifact: CatalogArtifact,
                 place: Reference) -> None:
    """Two curators: whoever publishes must have seen what the other published, or it would be lost."""
    if before is None or (known is not None and (before.digest == known.digest or before.root.version < known.version)):
        return
    ours = (artifact.root.tree, artifact.root.namespaces)
    if (before.root.tree, before.root.namespaces) == ours:  # this folder published it and was stopped then
        return
    raise InvalidInput(f"{place} holds version {before.root.version} of the catalog, and this folder knows "
                       f"{f'version {known.version}' if known else 'none'}",
                       hint="Another curator published meanwhile. Take their changes over, for instance with git "
                       "pull; `fuseml catalog diff` shows what would be lost.")
