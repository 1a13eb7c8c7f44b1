"""The tar file: written so that equal exports give equal bytes, read so that a hostile one changes nothing."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import split_digest
from fuseml_sdk.archives import Limits, read_files
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput

_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
#: Bytes of index.json and of oci-layout that are read at most.
_MOST_DOCUMENT = 4 << 20
LIMITS = Limits(members=50_000, size=256 << 30)


@dataclass(frozen=True, slots=True)
class Archive:
    """What goes into the tar file.

    Attributes:
        index: Bytes of index.json.
        blobs: Every blob with digest and size, by digest.
        size: Bytes of the tar file.
    """

    index: bytes
    blobs: tuple[Descriptor, ...]
    size: int


def plan(manifests: Iterable[Descriptor], blobs: Blobs) -> Archive:
    """Say what a tar file with these manifests and all blobs of a folder that they reach would hold.

    Args:
        manifests: Entries of index.json.
        blobs: The folder; only what was put or fetched through it in this export goes in.
    """
    entries = {(entry.digest, entry.annotations.get(media.REF_NAME, "")): entry for entry in manifests}
    listed = [entries[key].to_json() for key in sorted(entries)]
    index = canonical_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": listed})
    held = tuple(Descriptor("", digest, blobs.path(digest).stat().st_size) for digest in sorted(blobs.used()))
    sizes = [len(_MARKER), len(index), *(blob.size for blob in held)]
    names = ["oci-layout", "index.json", *map(_name, held)]
    total = sum(len(_header(name, size)) + _padded(size) for name, size in zip(names, sizes, strict=True)) + 2 * _BLOCK
    return Archive(index, held, -(-total // _RECORD) * _RECORD)


def stream(archive: Archive, blobs: Blobs) -> Iterator[bytes]:
    """The bytes of the tar file, each blob verified while it is read.

    Raises:
        InvalidInput: A blob was changed on disk since it was fetched.
    """
    sent = 0
    for name, data in (("oci-layout", _MARKER), ("index.json", archive.index)):
        block = _header(name, len(data)) + data + bytes(_padded(len(data)) - len(data))
        sent += len(block)
        yield block
    for blob in archive.blobs:
        header = _header(_name(blob), blob.size)
        yield header
        yield from blobs.read(blob)
        if padding := _padded(blob.size) - blob.size:
            yield bytes(padding)
        sent += len(header) + _padded(blob.size)
    yield bytes(archive.size - sent)


def unpack(path: Path, blobs: Blobs) -> None:
    """Read a tar file into the folder of an OCI image layout; every blob is verified while it is written.

    Unpacking again after a kill goes on with what is there.

    Raises:
        InvalidInput: It is no layout, damaged or hostile; blobs that were read before stay in the folder, which
            nothing uses until this function has returned.
    """
    documents: dict[str, bytes] = {}
    blobs.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with path.open("rb") as file:
            for name, contents in read_files(file, limits=LIMITS):
                match = _BLOB.fullmatch(name)
                if match:
                    blobs.write(f"{match[1]}:{match[2]}", contents)
                elif name in ("oci-layout", "index.json"):
                    documents[name] = _document(name, contents)
                else:
                    raise InvalidInput(f"{name[:200]!r} does not belong into an OCI image layout")
    except InvalidInput as error:
        raise InvalidInput(f"the archive is refused: {error.message}",
                           hint="It was damaged or changed on its way; copy or export it again.") from None
    if set(documents) != {"oci-layout", "index.json"}:
        raise InvalidInput("the archive is refused: it is not an OCI image layout",
                           hint="Make it with: fuseml extension export NAME -o FILE.tar")
    for name, data in documents.items():
        write_durably(blobs.folder / name, data)


def _document(name: str, contents: Iterator[bytes]) -> bytes:
    data = b""
    for piece in contents:
        data += piece
        if len(data) > _MOST_DOCUMENT:
            raise InvalidInput(f"{name} is larger than {_MOST_DOCUMENT} bytes")
    return data


def _name(blob: Descriptor) -> str:
    return "blobs/{}/{}".format(*split_digest(blob.digest))


def _header(name: str, size: int) -> bytes:
    """Without time and owner, as the other writers of layouts have it."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
