"""Unpacking a verified bundle: only the files its descriptor lists appear, each checked again while it is written.

Nothing a tar can say is followed: no links, devices, modes, owners or names beyond the list.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from fuseml_oci.bundles.descriptor import MAX_FILES, MAX_TOTAL, TAR_KINDS, WHEEL_FOLDERS, BundleLayer
from fuseml_oci.bundles.icons import check_icon
from fuseml_oci.bundles.transfer import PulledBundle
from fuseml_oci.bundles.wheels import check_names
from fuseml_oci.digests import BUFFER
from fuseml_sdk import archives
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import FileEntry

#: The config blob in the unpacked bundle.
DESCRIPTOR_FILE = "extension.json"
_LIMITS = archives.Limits(members=MAX_FILES, size=MAX_TOTAL)


def unpack(bundle: PulledBundle, destination: Path) -> Path:
    """Unpack a bundle into a folder that must not exist; nothing is left if it fails.

    Args:
        bundle: Its blobs must be verified.
        destination: Will hold `extension.json`, `requirements.lock`, `wheels/`, `runnables/`, `templates/`,
            `files/`, README and icon, as far as the bundle has them; files are read-only.

    Raises:
        InvalidInput: A layer holds something that the descriptor does not list, or lacks or changes something.
    """
    expected = _expected(bundle.descriptor.files, bundle.descriptor.name)
    destination.mkdir(parents=True, mode=0o755)
    try:
        for layer in bundle.descriptor.layers:
            _unpack_layer(bundle.blobs[layer.digest], layer, expected, destination)
        if expected:
            raise InvalidInput(f"the bundle {bundle.descriptor.name} lacks {next(iter(expected))!r}, which its "
                               "descriptor lists")
        _write_new(destination / DESCRIPTOR_FILE, bundle.config)
    except BaseException:
        shutil.rmtree(destination, ignore_errors=True)
        raise
    return destination


def _expected(files: list[FileEntry], name: str) -> dict[str, FileEntry]:
    """The listed files by path, after checking that they can all exist below one folder."""
    if len(files) > MAX_FILES or sum(file.size for file in files) > MAX_TOTAL:
        raise InvalidInput(f"the bundle {name} lists more than {MAX_FILES} files or {MAX_TOTAL} bytes")
    paths: dict[str, FileEntry] = {}
    for file in files:
        pure = PurePosixPath(file.path)
        if (pure.is_absolute() or ".." in pure.parts or str(pure) != file.path or file.path == DESCRIPTOR_FILE
                or "\\" in file.path or any(ord(char) < 32 for char in file.path) or not pure.parts
                or len(pure.parts) > archives.MAX_DEPTH or any(len(part.encode()) > 255 for part in pure.parts)):
            raise InvalidInput(f"the bundle {name} lists the path {file.path[:200]!r}, which is not allowed")
        paths[file.path] = file
    folded = {archives.folded(path) for path in paths}
    parents = {archives.folded(str(parent)) for path in paths for parent in PurePosixPath(path).parents}
    if len(paths) != len(files) or len(folded) != len(files) or folded & parents:
        raise InvalidInput(f"the bundle {name} lists two files with the same path")
    return paths


def _unpack_layer(blob: Path, layer: BundleLayer, expected: dict[str, FileEntry], destination: Path) -> None:
    if layer.kind in TAR_KINDS:
        with blob.open("rb") as stream:
            for path, contents in _members(stream, layer):
                _place(path, contents, expected, destination, layer)
        return
    path = f"{WHEEL_FOLDERS[layer.kind]}/{layer.title}" if layer.kind in WHEEL_FOLDERS else layer.title
    if layer.kind in WHEEL_FOLDERS:
        check_names(layer.title, blob)
    if layer.kind == "icon":
        check_icon(blob.read_bytes(), layer.title)
    with blob.open("rb") as stream:
        _place(path, iter(partial(stream.read, BUFFER), b""), expected, destination, layer)


def _members(stream: IO[bytes], layer: BundleLayer) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of a tar layer; anything else is refused."""
    try:
        for path, contents in archives.read_files(stream, limits=_LIMITS):
            if not path.startswith(TAR_KINDS[layer.kind]):
                raise InvalidInput(f"{path[:200]!r} does not belong into this layer")
            yield path, contents
    except InvalidInput as error:
        raise InvalidInput(f"{layer.title}: {error.message}") from None


def _place(path: str, contents: Iterator[bytes], expected: dict[str, FileEntry], destination: Path,
           layer: BundleLayer) -> None:
    entry = expected.pop(path, None)
    if entry is None:
        raise InvalidInput(f"{layer.title}: {path[:200]!r} is not in the descriptor's list, or is there twice")
    target = destination / path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    mode = 0o555 if entry.executable else 0o444
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        for data in contents:
            size += len(data)
            if size > entry.size:
                break
            digest.update(data)
            file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)  # the umask must not count
        os.fsync(file.fileno())
    if size != entry.size or entry.digest != f"sha256:{digest.hexdigest()}":
        raise InvalidInput(f"{layer.title}: {path!r} has not the size and digest that the descriptor lists")


def _write_new(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
