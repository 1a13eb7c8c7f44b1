"""Image layouts as targets of copies: several artifacts in one, gathered before anybody sees them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.copy_sources import CopySource, Found
from fuseml_oci.copy_targets import Outcome
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.layout import ImageLayout, blob_name, refuse_links, start_layout, write_index, write_layout
from fuseml_oci.progress import Watch
from fuseml_oci.referring import subject_of
from fuseml_oci.transfers import store
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, Retryable


class LayoutTarget:
    """A layout, to which everything is added that is copied into it; one at a time may write to it.

    A tar file is gathered in a folder beside it, which stays when a copy fails, so that the next one goes on.

    Args:
        path: Folder or `.tar` file; need not exist.

    Raises:
        InvalidInput: There is something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_tar = path.suffix == ".tar"
        self._folder = path.with_name(f".{path.name}.parts") if self._is_tar else path
        self._entries: dict[tuple[str, str], Descriptor] = {}
        try:
            start_layout(self._folder)
            if self._is_tar and path.exists():
                self._take_over(ImageLayout(path))
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from None

    def take_blob(self, descriptor: Descriptor, source: CopySource, watch: Watch) -> Outcome:
        """See `CopyTarget`."""
        path = self._place(descriptor.digest)
        if path.is_file() and not path.is_symlink() and path.stat().st_size == descriptor.size:
            return "present"
        source.save(descriptor, path, watch)
        path.chmod(0o644)
        return "sent"

    def take_manifest(self, found: Found) -> None:
        """See `CopyTarget`. Referrers are listed in index.json, where readers of layouts look for them."""
        path = self._place(found.descriptor.digest)
        if not path.is_file() or path.is_symlink() or path.read_bytes() != found.data:
            write_durably(path, found.data, mode=0o644)
        if subject_of(found.data) is not None:
            self._entries.setdefault((found.descriptor.digest, ""), _entry(found, ""))

    def name(self, found: Found, tag: str) -> None:
        """See `CopyTarget`."""
        self._entries[found.descriptor.digest, tag] = _entry(found, tag)

    def finish(self) -> None:
        """See `CopyTarget`: write index.json, and the tar file if that is what is wanted."""
        try:
            with self._locked():
                listed = _merged(ImageLayout(self._folder).manifests(), list(self._entries.values()))
                write_index(self._folder, listed)
                if self._is_tar:
                    files = [p for p in self._folder.glob("blobs/*/*") if not p.name.startswith(".")]
                    write_layout(self._path, listed, {f"{p.parent.name}:{p.name}": p for p in files})
                    shutil.rmtree(self._folder)
        except OSError as error:
            raise InvalidInput(f"{self._path} cannot be written: {error.strerror or error}") from None

    def _place(self, digest: str) -> Path:
        """Where a blob belongs; its folder is made."""
        name = blob_name(digest)
        refuse_links(self._folder, name)
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _take_over(self, old: ImageLayout) -> None:
        for descriptor in old.blobs():
            path = self._place(descriptor.digest)
            if not path.is_file() or path.stat().st_size != descriptor.size:
                store(old.section(descriptor), descriptor, path, lambda _: None)
                path.chmod(0o644)
        write_index(self._folder, _merged(old.manifests(), ImageLayout(self._folder).manifests()))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Retryable(f"{self._path} is being written by another program", hint="try again") from None
        finally:
            os.close(handle)

    def __str__(self) -> str:
        return str(self._path)


def _entry(found: Found, name: str) -> Descriptor:
    plain = {k: v for k, v in found.descriptor.annotations.items() if k != media.REF_NAME} if not name else {}
    return replace(found.descriptor, annotations={media.REF_NAME: name} if name else plain)


def _merged(old: list[Descriptor], new: list[Descriptor]) -> list[Descriptor]:
    """The entries of index.json: a name points to what was copied last, and nothing is listed twice."""
    names = {d.annotations.get(media.REF_NAME, "") for d in new} - {""}
    kept = {(d.digest, d.annotations.get(media.REF_NAME, "")): d for d in old
            if d.annotations.get(media.REF_NAME, "") not in names}
    kept |= {(d.digest, d.annotations.get(media.REF_NAME, "")): d for d in new}
    named = {digest for digest, name in kept if name}
    return [d for (digest, name), d in sorted(kept.items()) if name or digest not in named]
