"""Runnables as OCI artifacts: a directory with `runnable.json` becomes a manifest whose digest is its identity.

The config blob is the canonical `runnable.json`; one uncompressed, deterministic tar layer has the other files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes, digest_file, split_digest
from fuseml_sdk import archives
from fuseml_sdk.durable import sync_directory, write_durably
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import explain
from fuseml_sdk.trees import scan_tree
from fuseml_sdk.types import RunnableDescriptor

DESCRIPTOR_FILE = "runnable.json"


@dataclass(frozen=True, slots=True)
class Packed:
    """A runnable ready to be pushed: exact bytes of manifest and config, and the file with the tar layer."""

    manifest: bytes
    config: bytes
    layer: Path
    layer_descriptor: Descriptor

    @property
    def digest(self) -> str:
        """Digest of the manifest: the runnable's identity."""
        return digest_bytes(self.manifest)


@dataclass(frozen=True, slots=True)
class Remote:
    """What a registry says about a runnable, verified: nothing unpacked."""

    digest: str
    descriptor: RunnableDescriptor
    config: Descriptor
    config_bytes: bytes
    layer: Descriptor
    manifest_size: int

    @property
    def size(self) -> int:
        """Bytes of manifest, config and layer together."""
        return self.manifest_size + self.config.size + self.layer.size


@contextmanager
def pack(directory: Path) -> Iterator[Packed]:
    """Pack a directory; the tar layer lives as long as the context. Same contents, same digest, on any machine.

    Args:
        directory: With `runnable.json` at its root.

    Raises:
        NotFound: There is no such directory.
        InvalidInput: `runnable.json` is missing or wrong, or a file cannot be carried elsewhere.
    """
    if not directory.is_dir():
        raise NotFound(f"{directory} is not a directory")
    config, descriptor = _read_config(directory / DESCRIPTOR_FILE)
    paths = [file.path for file in scan_tree(directory) if file.path != DESCRIPTOR_FILE]
    with tempfile.TemporaryDirectory(prefix="fuseml-runnable-") as folder:
        layer = Path(folder) / "files.tar"
        with layer.open("wb") as output:
            archives.write_tar(output, directory, paths)
        digest, size = digest_file(layer)
        layer_descriptor = Descriptor(media.RUNNABLE_FILES, digest, size)
        yield Packed(_manifest(config, layer_descriptor, descriptor), config, layer, layer_descriptor)


def push(client: RegistryClient, repository: str, packed: Packed) -> str:
    """Upload a runnable: blobs first, then the manifest under a tag that is its hex digest, so that lists show it.

    Returns:
        The digest of the manifest.
    """
    layer = packed.layer_descriptor
    client.push_blob(repository, packed.config, digest_bytes(packed.config), media.RUNNABLE_CONFIG)
    client.push_blob(repository, packed.layer, layer.digest, layer.media_type)
    return client.push_manifest(repository, split_digest(packed.digest)[1], packed.manifest, media.MANIFEST)


def look_up(client: RegistryClient, repository: str, reference: str) -> Remote:
    """Fetch manifest and config of a runnable by digest or tag.

    Raises:
        NotFound: There is no such version.
        InvalidInput: It is not a runnable.
    """
    data, _, digest = client.get_manifest(repository, reference)
    what = f"oci://{client.registry}/{repository}@{digest}"
    manifest = read_object(data, what)
    layers = manifest.get("layers")
    if manifest.get("artifactType") != media.RUNNABLE or not isinstance(layers, list) or len(layers) != 1:
        raise InvalidInput(f"{what} is not a runnable")
    config, layer = read_descriptor(manifest.get("config"), "config"), read_descriptor(layers[0], "layers[0]")
    if config.media_type != media.RUNNABLE_CONFIG or layer.media_type != media.RUNNABLE_FILES:
        raise InvalidInput(f"{what} is not a runnable: its media types are others")
    config_bytes = client.get_blob_bytes(repository, config)
    descriptor = _validated(config_bytes, what)
    return Remote(digest, descriptor, config, config_bytes, layer, len(data))


def fetch(client: RegistryClient, repository: str, digest: str, cache: Path) -> Path:
    """Return a directory with the contents of a runnable, `runnable.json` included; fetched once, verified.

    Args:
        client: For the registry.
        repository: Such as `runnables/myproj/myapp-trainer`.
        digest: Of the manifest.
        cache: Holds one directory per digest, named by its hexadecimal part; must not be changed by users.

    Raises:
        NotFound, InvalidInput, Permanent, Retryable: As the client raises them; nothing is left behind.
    """
    target = cache / split_digest(digest)[1]
    if target.is_dir():
        return target
    remote = look_up(client, repository, digest)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        layer, contents = Path(folder) / "files.tar", Path(folder) / "contents"
        client.pull_blob(repository, remote.layer, layer)
        archives.unpack(layer, contents)
        write_durably(contents / DESCRIPTOR_FILE, remote.config_bytes, mode=0o644)
        _synchronise(contents)
        try:
            contents.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    sync_directory(cache)
    return target


def forget(cache: Path, digest: str) -> None:
    """Remove the fetched contents of a runnable, if there are any."""
    target = cache / split_digest(digest)[1]
    if not target.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix=".forget-", dir=cache) as folder:
        target.rename(Path(folder) / "contents")  # nobody sees half of it
        shutil.rmtree(Path(folder) / "contents", ignore_errors=True)


def _read_config(path: Path) -> tuple[bytes, RunnableDescriptor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}",
                           hint="a runnable is a directory with runnable.json at its root") from None
    config = canonical_json(read_object(data, str(path)))
    return config, _validated(config, str(path))


def _validated(data: bytes, what: str) -> RunnableDescriptor:
    try:
        return RunnableDescriptor.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(explain(error, what)) from None


def _manifest(config: bytes, layer: Descriptor, descriptor: RunnableDescriptor) -> bytes:
    return canonical_json({
        "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.RUNNABLE,
        "config": descriptor_of(config, media.RUNNABLE_CONFIG).to_json(), "layers": [layer.to_json()],
        "annotations": {media.RUNNABLE_NAME: descriptor.name, media.RUNNABLE_KIND: descriptor.kind},
    })


def _synchronise(directory: Path) -> None:
    """Put a tree on disk, so that its rename never shows an empty file after a power cut."""
    for folder, _, files in os.walk(directory):
        for name in files:
            if not (Path(folder) / name).is_symlink():
                with (Path(folder) / name).open("rb") as file:
                    os.fsync(file.fileno())
        sync_directory(Path(folder))
