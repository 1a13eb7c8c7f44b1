"""Making archives: everything that belongs to some bundles, fetched once, verified, sent as one tar file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fuseml_core.adapters.extensions.airgap import archive, document
from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_core.adapters.extensions.airgap.gathering import gather
from fuseml_core.adapters.extensions.airgap.wheels import WheelCollector
from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.domain.errors import NotFound
from fuseml_core.service.extensions.care_ports import Export, ExportItem, Target
from fuseml_core.service.extensions.ports import FoundBundle, Progress
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.durable import write_durably

_ID_LENGTH = 64


class LayoutExports:
    """Implements the port `Exports` with OCI image layouts.

    Args:
        folder: For what was fetched and what archives hold, such as `<home>/extensions/transfers`.
        content: Folder with `sha256/<hex>` files of layers that were downloaded before.
        connect: Returns a client for the registry of a reference.
        origin: Turns a reference as this server knows it into one that means the same elsewhere.
        wheels: Returns what collects the wheels of locks for one archive.
        catalogs: Returns the catalogs that know a bundle, by the names of the marketplaces here.
    """

    def __init__(self, folder: Path, content: Path, connect: Callable[[Reference], RegistryClient],
                 origin: Callable[[Reference], Reference], wheels: Callable[[], WheelCollector],
                 catalogs: Callable[[FoundBundle], Mapping[str, Reference]] = lambda _found: {}) -> None:
        self._folder, self._content, self._connect = folder, content, connect
        self._origin, self._wheels, self._catalogs = origin, wheels, catalogs

    def make(self, items: Sequence[ExportItem], lock: str, target: Target, progress: Progress) -> Export:
        """Fetch everything; see the port."""
        blobs = Blobs(self._folder, (self._content,))
        entries: list[Descriptor] = []
        bundles = []
        with translated():
            collector = self._wheels()
            wanted = collector.target(target)
            for number, item in enumerate(items, start=1):
                found = item.found
                progress(f"gathering {found.name} {found.version} ({number} of {len(items)})")
                reference = parse(found.reference).with_digest(found.digest)
                with self._connect(reference) as client:
                    entries += gather(reference, f"{found.name}-{found.version}", client, blobs)
                entries += collector.collect(found, blobs, wanted, progress)
                bundles.append(document.ExportedBundle(found.name, found.version, found.digest,
                                                       str(self._origin(reference)), item.requested))
            catalogs = {name: place for item in items for name, place in self._catalogs(item.found).items()}
            for name, place in sorted(catalogs.items()):
                progress(f"gathering the catalog of {name}")
                with self._connect(place) as client:
                    entries += gather(place, f"catalog-{name}", client, blobs)
            used = wanted if collector.collected else Target()
            named = tuple(document.ExportedCatalog(name, str(self._origin(place)), place.digest)
                          for name, place in sorted(catalogs.items()))
            described = document.Document(tuple(bundles), named, used.platform, used.python)
            entry, own = document.make_manifest(described, lock.encode())
            for data in own.values():
                blobs.put(data)
            planned = archive.plan([entry, *entries], blobs)
        return self._remember(planned, described)

    def open(self, identifier: str) -> tuple[int, Iterator[bytes]]:
        """Size and bytes of an archive; see the port."""
        try:
            if len(identifier) != _ID_LENGTH or not identifier.isalnum():
                raise FileNotFoundError
            stored = json.loads(self._place(identifier).read_bytes())
        except FileNotFoundError:
            raise NotFound(f"there is no export {identifier[:80]!r}", hint="Export again.") from None
        planned = archive.Archive(stored["index"].encode(),
                                  tuple(Descriptor("", digest, size) for digest, size in stored["blobs"]),
                                  stored["size"])
        return planned.size, _translated_stream(planned, Blobs(self._folder))

    def _remember(self, planned: archive.Archive, described: document.Document) -> Export:
        stored = {"index": planned.index.decode(), "size": planned.size,
                  "blobs": [[blob.digest, blob.size] for blob in planned.blobs]}
        data = json.dumps(stored, sort_keys=True).encode()
        identifier = hashlib.sha256(data).hexdigest()
        self._place(identifier).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._place(identifier), data)
        bundles = tuple({"name": b.name, "version": b.version, "digest": b.digest, "reference": b.reference,
                         "requested": b.requested} for b in described.bundles)
        return Export(identifier, planned.size, bundles, len(planned.blobs))

    def _place(self, identifier: str) -> Path:
        return self._folder / "exports" / f"{identifier}.json"


def _translated_stream(planned: archive.Archive, blobs: Blobs) -> Iterator[bytes]:
    with translated():
        try:
            yield from archive.stream(planned, blobs)
        except FileNotFoundError as error:
            raise NotFound(f"a blob of the export was cleaned away: {Path(error.filename).name}",
                           hint="Export again.") from None
