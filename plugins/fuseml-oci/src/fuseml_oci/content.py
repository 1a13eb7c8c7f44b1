"""A verified content store: blobs by digest in a directory, each appearing whole and correct or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import HEX_LENGTH, digest_bytes, digest_file, is_digest, split_digest
from fuseml_oci.transfers import sync_directory
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

#: Puts the content of a descriptor into a file, or raises; `RegistryClient.pull_blob` with a repository bound.
Fetch = Callable[[Descriptor, Path], None]


class ContentStore:
    """Blobs under `<root>/blobs/<algorithm>/<hex>`, the same places as in an image layout.

    Args:
        root: Directory; made when the first blob arrives.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether it exists or not. Digests are validated, so paths stay inside."""
        algorithm, value = split_digest(digest)
        return self._blobs / algorithm / value

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.path(digest).is_file()

    def add_bytes(self, data: bytes, digest: str = "") -> str:
        """Keep some bytes; returns their digest.

        Raises:
            InvalidInput: They do not have the digest that was given.
        """
        found = digest_bytes(data, split_digest(digest)[0] if digest else "sha256")
        if digest and found != digest:
            raise InvalidInput(f"content has the digest {found}, not {digest}")
        target = self.path(found)
        if not target.exists():
            write_file(target, data)
        return found

    def add(self, descriptor: Descriptor, fetch: Fetch) -> Path:
        """Return the file of a blob, fetching it if it is missing, and check it.

        Raises:
            Permanent: What was fetched has another digest or size; nothing was kept.
        """
        target = self.path(descriptor.digest)
        if target.is_file() and target.stat().st_size == descriptor.size:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            arrived = Path(folder) / "blob"
            fetch(descriptor, arrived)
            if digest_file(arrived, split_digest(descriptor.digest)[0]) != (descriptor.digest, descriptor.size):
                raise Permanent(f"what was fetched is not {descriptor.digest} with {descriptor.size} bytes")
            arrived.replace(target)
        sync_directory(target.parent)
        return target

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a small blob, verified.

        Raises:
            NotFound: It is not there.
            Permanent: The disk or somebody changed it.
        """
        try:
            data = self.path(descriptor.digest).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"the content store holds no {descriptor.digest}") from None
        if len(data) != descriptor.size or digest_bytes(data, split_digest(descriptor.digest)[0]) != descriptor.digest:
            raise Permanent(f"{self.path(descriptor.digest)} is damaged", hint="delete the file and fetch it again")
        return data

    def digests(self) -> Iterator[str]:
        """Go through the digests of all blobs, in no order."""
        for algorithm, length in HEX_LENGTH.items():
            folder = self._blobs / algorithm
            for path in folder.iterdir() if folder.is_dir() else ():
                if len(path.name) == length and is_digest(f"{algorithm}:{path.name}"):
                    yield f"{algorithm}:{path.name}"

    def remove(self, digest: str) -> int:
        """Delete a blob; returns its size in bytes, 0 if it was not there."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically and durably, making its directory if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".write-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    sync_directory(path.parent)
