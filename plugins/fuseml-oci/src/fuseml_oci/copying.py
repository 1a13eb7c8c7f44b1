"""Copying artifacts whole, byte for byte, between registries and layouts: manifests, blobs, referrers, cosign's tags.

What the target has is not sent again, so that a copy that was interrupted is simply repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from fuseml_oci import media
from fuseml_oci.batches import CONCURRENCY, in_parallel
from fuseml_oci.client import RegistryClient
from fuseml_oci.copy_graph import Graph
from fuseml_oci.copy_sources import CopySource, LayoutCopySource, LayoutEntry, RepositoryCopySource
from fuseml_oci.copy_targets import CopyTarget, Outcome, RepositoryTarget
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.layout import ImageLayout
from fuseml_oci.layout_target import LayoutTarget
from fuseml_oci.progress import Meter, Report
from fuseml_oci.reference import Reference
from fuseml_sdk.errors import InvalidInput, NotFound

#: Returns a client for the registry of a reference.
Connect = Callable[[Reference], RegistryClient]

__all__ = ["CopyReport", "CopySource", "CopyTarget", "LayoutEntry", "LayoutTarget", "RepositoryCopySource",
           "RepositoryTarget", "copy"]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did; sizes in bytes.

    Attributes:
        root: Description of what was copied.
        manifests: Manifests and indexes, referrers among them.
        referrers: How many of them were not part of the artifact but refer to it.
        sent, mounted, present: Blobs that were transferred, mounted from another repository, or there already.
        size: Of the blobs that were transferred.
    """

    root: Descriptor
    manifests: int
    referrers: int
    sent: int
    mounted: int
    present: int
    size: int


def copy(source: Reference | LayoutEntry | CopySource, target: Reference | LayoutEntry | CopyTarget, *,
         tag: str = "", referrers: bool = True, concurrency: int = CONCURRENCY, progress: Report | None = None,
         connect: Connect | None = None) -> CopyReport:
    """Copy an artifact with all that belongs to it.

    Args:
        source: Where it is.
        target: Where to; without a tag or name it keeps the one it has. Call `finish` of a `CopyTarget` yourself,
            after all that shall go into it.
        tag: Tag or name at the target, instead of that of the target or source.
        referrers: Also what refers to it, recursively, and cosign's tags.
        concurrency: Blobs at the same time, 1 to 16.
        progress: Told how far it is.
        connect: How to reach registries; by default with the credentials of the environment.

    Returns:
        What was done.

    Raises:
        NotFound: The source, or something that it names, is not there.
        InvalidInput: The target refuses it, or a bound is exceeded.
        Permanent: Bytes are not what their digest says.
        Retryable: Faults did not pass; call again to go on.
    """
    with ExitStack() as stack:
        origin = _source(source, connect, stack)
        place = _target(target, connect, stack)
        graph = Graph(origin, referrers)
        root = graph.read()
        if isinstance(target, Reference) and target.digest not in ("", root.descriptor.digest):
            raise InvalidInput(f"{target} asks for another digest than that of the source, {root.descriptor.digest}")
        outcomes = _copy_blobs(graph.blobs.values(), origin, place, concurrency, progress)
        for found in graph.manifests.values():
            place.take_manifest(found)
        for name, found in graph.names.items():
            place.name(found, name)
        wanted = tag or _name_of(target) or origin.name
        if wanted and ":" not in wanted:
            place.name(root, wanted)
        elif isinstance(place, LayoutTarget):
            place.name(root, "")
        if place is not target:
            place.finish()
    kinds = [kind for _, kind in outcomes]
    return CopyReport(root.descriptor, len(graph.manifests), graph.extra, kinds.count("sent"), kinds.count("mounted"),
                      kinds.count("present"), sum(d.size for d, kind in outcomes if kind == "sent"))


def _copy_blobs(blobs: Iterable[Descriptor], source: CopySource, target: CopyTarget, concurrency: int,
                progress: Report | None) -> list[tuple[Descriptor, Outcome]]:
    wanted = sorted(blobs, key=lambda blob: -blob.size)
    meter, outcomes = Meter(progress), list[tuple[Descriptor, Outcome]]()
    meter.expect(len(wanted), sum(blob.size for blob in wanted))

    def work(blob: Descriptor) -> None:
        watch = meter.blob()
        try:
            outcome = target.take_blob(blob, source, watch)
        except NotFound:
            if blob.media_type not in media.NON_DISTRIBUTABLE:
                raise
            meter.skipped(watch, blob.size)
            return
        outcomes.append((blob, outcome))
        (meter.finished if outcome == "sent" else meter.skipped)(watch, blob.size)

    in_parallel(work, wanted, concurrency, meter)
    return outcomes


def _source(source: Reference | LayoutEntry | CopySource, connect: Connect | None, stack: ExitStack) -> CopySource:
    if isinstance(source, Reference):
        return RepositoryCopySource(_client(source, connect, stack), source)
    if isinstance(source, LayoutEntry):
        return LayoutCopySource(ImageLayout(source.path), source)
    return source


def _target(target: Reference | LayoutEntry | CopyTarget, connect: Connect | None, stack: ExitStack) -> CopyTarget:
    if isinstance(target, Reference):
        return RepositoryTarget(_client(target, connect, stack), target)
    return LayoutTarget(target.path) if isinstance(target, LayoutEntry) else target


def _client(reference: Reference, connect: Connect | None, stack: ExitStack) -> RegistryClient:
    if connect is not None:
        return connect(reference)
    client = RegistryClient.for_reference(reference)
    stack.callback(client.close)
    return client


def _name_of(place: object) -> str:
    return place.tag if isinstance(place, Reference) else place.name if isinstance(place, LayoutEntry) else ""
