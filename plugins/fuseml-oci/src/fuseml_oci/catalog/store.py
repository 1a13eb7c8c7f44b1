"""What a subscriber keeps of a catalog: documents by digest, and one small file that says which catalog is current."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path

from pydantic import Field, ValidationError

from fuseml_oci.catalog.format import Digest, Moment, Name
from fuseml_oci.catalog.reading import Catalog, open_catalog
from fuseml_oci.catalog.search import Row, read_row
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.types import WireModel

_CURRENT, _BLOBS = "current.json", "blobs"


class Held(WireModel):
    """The catalog that a subscriber believes at present."""

    reference: str
    digest: Digest
    name: Name
    version: int
    issued: Moment
    expires: Moment
    signers: tuple[str, ...] = Field((), description="fingerprints of the keys that signed it")
    relocated: dict[str, str] = Field(default_factory=dict, description="repository to where the mirror keeps it")


class CatalogStore:
    """A folder with one catalog. Documents are verified whenever they are read, so that a damaged one is fetched again.

    Args:
        folder: Made on first use; belongs to this catalog alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def held(self) -> Held | None:
        """Which catalog is current; None before the first update.

        Raises:
            InvalidInput: The file that says so is damaged.
        """
        path = self.folder / _CURRENT
        try:
            return Held.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, ValueError):
            raise InvalidInput(f"{path} is damaged", hint="Remove the marketplace and add it again.") from None

    def stamp(self) -> tuple[int, int] | None:
        """Changes whenever another catalog becomes current; None before the first one."""
        try:
            status = (self.folder / _CURRENT).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def catalog(self) -> Catalog | None:
        """The current catalog, read from this folder."""
        held = self.held()
        return None if held is None else open_catalog(self, held.digest)

    def rows(self) -> list[Row]:
        """Rows of all packages of the current catalog, for searching; nothing if they are damaged."""
        held = self.held()
        try:
            return [read_row(value) for value in json.loads(self._rows(held.digest).read_bytes())] if held else []
        except (OSError, ValueError, TypeError):
            return []

    def manifest(self, digest: str) -> bytes:
        """Bytes of a manifest or image index."""
        return self._read(digest)

    def blob(self, descriptor: Descriptor) -> bytes:
        """Bytes of a document."""
        return self._read(descriptor.digest)

    def has(self, digest: str) -> bool:
        """Whether a document is there, undamaged."""
        try:
            self._read(digest)
        except NotFound:
            return False
        return True

    def put(self, digest: str, data: bytes) -> None:
        """Keep a document; readers see all of it or nothing."""
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name[:16]}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(data)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def switch(self, held: Held, rows: Iterable[Row]) -> None:
        """Make another catalog current; its documents are there. One rename decides."""
        write_durably(self._rows(held.digest), canonical_json([row.to_json() for row in rows]))
        write_durably(self.folder / _CURRENT, canonical_json(held.model_dump(mode="json")))
        for path in self.folder.glob("rows-*.json"):
            if path != self._rows(held.digest):
                path.unlink(missing_ok=True)

    def clean(self, keep: Collection[str]) -> None:
        """Drop documents whose digest is not in `keep`, and what a crash left behind."""
        names = {digest.partition(":")[2] for digest in keep}
        for path in (self.folder / _BLOBS).glob("*/*"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _read(self, digest: str) -> bytes:
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            data = b""
        if not data or digest_bytes(data, digest.partition(":")[0]) != digest:
            raise NotFound(f"the document {digest} is not in {self.folder}", hint="Fetch the catalog again: "
                           "fuseml marketplace update")
        return data

    def _rows(self, digest: str) -> Path:
        return self.folder / f"rows-{digest.partition(':')[2][:32]}.json"

    def _path(self, digest: str) -> Path:
        value = digest.partition(":")[2]
        return self.folder / _BLOBS / value[:2] / value
