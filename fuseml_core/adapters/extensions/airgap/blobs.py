"""A folder of blobs named by their digests: what is fetched for an export, and what an archive held."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import BUFFER, digest_bytes, digest_file, new_hasher, split_digest
from fuseml_sdk.durable import sync_directory, write_durably
from fuseml_sdk.errors import InvalidInput


class Blobs:
    """Blobs below one folder, as `blobs/<algorithm>/<hex>`: the folder of an OCI image layout. Not thread-safe.

    Args:
        folder: Made when the first blob comes.
        known: Folders with `<algorithm>/<hex>` files whose blobs are taken over instead of fetched.
    """

    def __init__(self, folder: Path, known: tuple[Path, ...] = ()) -> None:
        self.folder, self._known = folder, known
        self._verified: set[str] = set()

    def path(self, digest: str) -> Path:
        """Where a blob lies or would lie."""
        algorithm, value = split_digest(digest)
        return self.folder / "blobs" / algorithm / value

    def used(self) -> frozenset[str]:
        """Digests of all blobs that were put, fetched or written through this object."""
        return frozenset(self._verified)

    def put(self, data: bytes, digest: str = "") -> str:
        """Keep some bytes; returns their digest.

        Raises:
            InvalidInput: They do not have the digest that was said.
        """
        found = digest_bytes(data, split_digest(digest)[0] if digest else "sha256")
        if digest and found != digest:
            raise InvalidInput(f"the bytes have the digest {found}, not {digest}")
        if found not in self._verified:
            self._folder_of(found)
            write_durably(self.path(found), data, mode=0o644)
            self._verified.add(found)
        return found

    def fetch(self, descriptor: Descriptor, download: Callable[[Path], None]) -> bool:
        """Keep a blob unless it is here, verified again; returns whether it had to be fetched.

        Args:
            descriptor: Digest and size to demand.
            download: Puts the verified blob into a file.
        """
        if descriptor.digest in self._verified:
            return False
        target = self.path(descriptor.digest)
        self._folder_of(descriptor.digest)
        is_new = not (self._is_whole(target, descriptor) or self._take_over(target, descriptor))
        if is_new:
            download(target)
        else:
            os.utime(target)  # it is in use: collection goes by the age of files
        self._verified.add(descriptor.digest)
        return is_new

    def write(self, digest: str, contents: Iterator[bytes]) -> int:
        """Keep a blob that comes in pieces, or compare it with the one that is here; returns its size in bytes.

        Raises:
            InvalidInput: It does not have its digest; nothing of it is kept.
        """
        target, hasher, size = self.path(digest), new_hasher(split_digest(digest)[0]), 0
        self._folder_of(digest)
        draft = target.with_name(f".{target.name}.partial")
        with draft.open("wb") as file:
            for piece in contents:
                hasher.update(piece)
                size += len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if not digest.endswith(f":{hasher.hexdigest()}"):
            draft.unlink()
            raise InvalidInput(f"the blob {digest} is damaged: its bytes have the digest {hasher.hexdigest()[:12]}…")
        draft.replace(target)
        sync_directory(target.parent)
        self._verified.add(digest)
        return size

    def read(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The bytes of a blob in pieces, verified: the last one comes only if the digest is right.

        Raises:
            InvalidInput: It was changed since it was kept.
        """
        hasher, held = new_hasher(split_digest(descriptor.digest)[0]), b""
        with self.path(descriptor.digest).open("rb") as file:
            while piece := file.read(BUFFER):
                hasher.update(piece)
                if held:
                    yield held
                held = piece
        if not descriptor.digest.endswith(f":{hasher.hexdigest()}"):
            self.path(descriptor.digest).unlink(missing_ok=True)
            raise InvalidInput(f"the blob {descriptor.digest} was changed on disk",
                               hint="Try again: it is fetched anew.")
        if held:
            yield held

    def _folder_of(self, digest: str) -> None:
        self.path(digest).parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _take_over(self, target: Path, descriptor: Descriptor) -> bool:
        """Link or copy a blob that lies in one of the known folders, if it is what it should be."""
        algorithm, value = split_digest(descriptor.digest)
        for folder in self._known:
            source = folder / algorithm / value
            if self._is_whole(source, descriptor):
                draft = target.with_name(f".{target.name}.partial")
                draft.unlink(missing_ok=True)
                try:
                    os.link(source, draft)
                except OSError:  # another file system
                    draft.write_bytes(source.read_bytes())
                draft.replace(target)
                return True
        return False

    @staticmethod
    def _is_whole(path: Path, descriptor: Descriptor) -> bool:
        try:
            if path.stat().st_size != descriptor.size:
                return False
        except OSError:
            return False
        if not descriptor.digest.startswith("sha256:"):
            return False
        return digest_file(path) == (descriptor.digest, descriptor.size)
