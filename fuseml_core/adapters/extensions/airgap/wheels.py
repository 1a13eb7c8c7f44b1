"""The wheels that the locks of bundles need, as an artifact that refers to the bundle; and where imported ones lie.

A bundle carries the wheels of its own plugin. What its lock names beside them comes from a package index; an archive
brings it along, each file checked against the hashes in the lock.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_core.service.extensions.care_ports import Target
from fuseml_core.service.extensions.ports import FoundBundle, Progress
from fuseml_oci import media
from fuseml_oci.bundles.descriptor import TAR_KINDS
from fuseml_oci.bundles.manifest import BundleManifest, read_manifest
from fuseml_oci.bundles.targets import target as named_target
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of, read_descriptor, read_object
from fuseml_oci.digests import BUFFER, digest_file
from fuseml_sdk.archives import read_files
from fuseml_sdk.durable import sync_directory
from fuseml_sdk.errors import InvalidInput

WHEELS = media.WHEELS
WHEEL = "application/vnd.fuseml.wheel.v1"
#: Annotations of the artifact: what the wheels are for.
PLATFORM, PYTHON = "io.fuseml.wheels.platform", "io.fuseml.wheels.python"

_PIN = re.compile(r"(?m)^[A-Za-z0-9]")

#: Puts the wheels of a lock into a folder: lock file, target, folder.
Collect = Callable[[Path, Target, Path], Sequence[Path]]


class WheelCollector:
    """Collects wheels for one export.

    Args:
        fetch: Fetches the wheels of a lock, each checked against its hashes.
    """

    def __init__(self, fetch: Collect) -> None:
        self._fetch = fetch
        self.collected = False

    @staticmethod
    def target(target: Target) -> Target:
        """The target with nothing left open: by default, a machine like this one.

        Raises:
            InvalidInput: Version or platform is not known.
        """
        whole = named_target(target.python, target.platform)
        return Target(whole.platform, whole.python)

    def collect(self, found: FoundBundle, blobs: Blobs, target: Target, progress: Progress) -> list[Descriptor]:
        """Fetch what the locks of a bundle need and the bundle does not carry.

        Returns:
            The entry of index.json for the artifact with the wheels; nothing if the bundle needs none.
        """
        locks = [text for text in locks_of(found, blobs).values() if _PIN.search(text)]
        if not locks:
            return []
        progress(f"collecting the wheels of {found.name} for Python {target.python} on {target.platform}")
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=_made(blobs.folder)) as temporary:
            folder = Path(temporary, "wheels")
            folder.mkdir()
            wheels = set[Path]()
            for number, text in enumerate(locks):
                file = Path(temporary, f"{number}.lock")
                file.write_text(text, encoding="utf-8")
                wheels |= set(self._fetch(file, target, folder))
            layers = [_keep(path, blobs) for path in sorted(wheels)]
        self.collected = True
        return [_manifest(found, layers, target, blobs)]


def locks_of(found: FoundBundle, blobs: Blobs) -> dict[str, str]:
    """Text by name of the locks of a bundle whose blobs were gathered: its own and those of its runnables.

    A lock whose wheels the bundle carries is left out.

    Raises:
        InvalidInput: The bundle names a lock and does not contain it.
    """
    environment = found.descriptor["manifest"].get("environment") or {}
    own = str(environment.get("lock") or "")
    wanted = {own} | {str((runnable.get("environment") or {}).get("lock") or "")
                      for runnable in found.descriptor.get("runnables") or []}
    wanted -= {"", own} if environment.get("vendored") else {""}
    manifest = b"".join(blobs.read(Descriptor(media.MANIFEST, found.digest, 0)))
    texts = read_locks(read_manifest(manifest, media.MANIFEST, found.reference), blobs.path, wanted.__contains__) \
        if wanted else {}
    if missing := sorted(wanted - texts.keys()):
        raise InvalidInput(f"{found.name} {found.version} names the lock {missing[0]!r} and does not contain it")
    return texts


def read_locks(manifest: BundleManifest, path: Callable[[str], Path], wanted: Callable[[str], bool]) -> dict[str, str]:
    """Text by name of some files in the layers of a bundle.

    Args:
        manifest: Of the bundle.
        path: Says where the blob with a digest lies.
        wanted: Whether a name is that of a lock.
    """
    texts = {}
    for layer in manifest.layers:
        if layer.kind in TAR_KINDS:
            with path(layer.digest).open("rb") as stream:
                for name, contents in read_files(stream):
                    if wanted(name):
                        texts[name] = b"".join(contents).decode("utf-8", "replace")
    return texts


class WheelFolder:
    """Where imported wheels lie, for `--find-links`.

    Args:
        folder: Such as `<home>/wheels`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, filename: str, source: Path, digest: str) -> None:
        """Keep a wheel under its own name; one with this name and other bytes is replaced.

        Raises:
            InvalidInput: It is not the file name of a wheel.
        """
        if not filename.endswith(".whl") or "/" in filename or filename.startswith(".") or not filename.isascii():
            raise InvalidInput(f"{filename[:200]!r} is not the file name of a wheel")
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / filename
        if target.is_file() and digest_file(target)[0] == digest:
            os.utime(target)  # collection goes by the age of files
            return
        draft = self.folder / f".{digest.partition(':')[2]}.partial"
        with source.open("rb") as reading, draft.open("wb") as writing:
            for piece in _pieces(reading):
                writing.write(piece)
            writing.flush()
            os.fsync(writing.fileno())
        draft.replace(target)
        sync_directory(self.folder)


def titles(manifest: bytes, where: str) -> list[tuple[str, Descriptor]]:
    """File name and descriptor of each wheel in an artifact with wheels.

    Raises:
        InvalidInput: It is no such artifact.
    """
    document = read_object(manifest, where)
    layers = document.get("layers")
    if document.get("artifactType") != WHEELS or not isinstance(layers, list):
        raise InvalidInput(f"{where} holds no wheels")
    read = [read_descriptor(layer, f"layer of {where}") for layer in layers]
    return [(layer.annotations.get(media.TITLE, ""), layer) for layer in read if layer.digest != media.EMPTY_DIGEST]


def _manifest(found: FoundBundle, layers: Sequence[Descriptor], target: Target, blobs: Blobs) -> Descriptor:
    blobs.put(media.EMPTY_BYTES)
    subject = Descriptor(media.MANIFEST, found.digest, blobs.path(found.digest).stat().st_size)
    annotations = {PLATFORM: target.platform, PYTHON: target.python}
    data = canonical_json({
        "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": WHEELS,
        "config": Descriptor(media.EMPTY, media.EMPTY_DIGEST, len(media.EMPTY_BYTES)).to_json(),
        "layers": [layer.to_json() for layer in layers], "subject": subject.to_json(), "annotations": annotations})
    blobs.put(data)
    made = descriptor_of(data, media.MANIFEST)
    return Descriptor(made.media_type, made.digest, made.size, {}, WHEELS)


def _keep(path: Path, blobs: Blobs) -> Descriptor:
    digest, size = digest_file(path)
    with path.open("rb") as file:
        described = Descriptor(WHEEL, digest, size, {media.TITLE: path.name})
        blobs.write(digest, _pieces(file))
    return described


def _pieces(file: io.BufferedReader) -> Iterator[bytes]:
    while piece := file.read(BUFFER):
        yield piece


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
