"""The wheels that the locks of bundles need, as an artifact that refers to the bundle; and where imported ones lie.

A bundle carries the wheels of its own plugin. What its lock names beside them comes from a package index; an archive
brings it along, each file checked against the hashes in the lock.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_core.service.extensions.care_ports import Target
from fuseml_core.service.extensions.ports import FoundBundle, Progress
from fuseml_oci import media
from fuseml_oci.bundles.manifest import read_manifest
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
_LOCK = "requirements.lock"

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
        """Fetch what the lock of a bundle needs and the bundle does not carry.

        Returns:
            The entry of index.json for the artifact with the wheels; nothing if the bundle needs none.
        """
        lock = lock_of(found, blobs)
        if not lock or (found.descriptor["manifest"].get("environment") or {}).get("vendored"):
            return []
        pins = sum(1 for line in lock.splitlines() if line[:1].isalnum())
        if not pins:
            return []
        progress(f"collecting the wheels of {found.name} for Python {target.python} on {target.platform}")
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=_made(blobs.folder)) as temporary:
            file, folder = Path(temporary, _LOCK), Path(temporary, "wheels")
            file.write_text(lock, encoding="utf-8")
            folder.mkdir()
            layers = [_keep(path, blobs) for path in sorted(self._fetch(file, target, folder))]
        self.collected = True
        return [_manifest(found, layers, target, blobs)]


def lock_of(found: FoundBundle, blobs: Blobs) -> str:
    """The lock of a bundle whose blobs were gathered; empty if it has none."""
    environment = found.descriptor["manifest"].get("environment") or {}
    if not environment.get("lock"):
        return ""
    manifest = b"".join(blobs.read(Descriptor(media.MANIFEST, found.digest, 0)))
    parsed = read_manifest(manifest, media.MANIFEST, found.reference)
    for layer in parsed.layers:
        if layer.kind == "agents":
            data = b"".join(blobs.read(Descriptor(layer.media_type, layer.digest, layer.size)))
            for name, contents in read_files(io.BytesIO(data)):
                if name == environment["lock"]:
                    return b"".join(contents).decode()
    raise InvalidInput(f"{found.name} {found.version} names the lock {environment['lock']!r} and does not contain it")


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
