"""Moving blobs: hashed while they stream, resumed when a connection breaks, visible only when verified."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from fuseml_oci.bodies import pieces
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import BUFFER, new_hasher, split_digest
from fuseml_oci.retries import Patience, RetryPolicy
from fuseml_sdk.durable import sync_directory
from fuseml_sdk.errors import InvalidInput, Permanent, Retryable

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

#: Opens the blob from an offset: sends the GET and returns a streaming response with status 200 or 206.
Open = Callable[[int], requests.Response]


class VerifiedReader:
    """A file that is hashed while it is read, for sending; the last byte goes out only if the digest is right.

    Args:
        file: Binary file, positioned anywhere.
        digest: What the whole file must have.
        size: Bytes it must have.
        what: For errors.
    """

    def __init__(self, file: BinaryIO, digest: str, size: int, what: str) -> None:
        self._file, self._digest, self._what = file, digest, what
        self.len = size  # what requests reads for Content-Length
        self.seek(0)

    def seek(self, offset: int) -> int:
        """Start again from the beginning, the only supported offset."""
        if offset:
            raise ValueError(offset)
        self._hasher, self._read = new_hasher(split_digest(self._digest)[0]), 0
        return self._file.seek(0)

    def read(self, size: int = BUFFER) -> bytes:
        """Return the next bytes.

        Raises:
            InvalidInput: The file has another digest or size than was said.
        """
        data = self._file.read(min(size, BUFFER) if size > 0 else BUFFER)
        self._hasher.update(data)
        self._read += len(data)
        if (not data and self._read < self.len) or self._read > self.len:
            raise InvalidInput(f"{self._what}: the file does not have {self.len} bytes, as was said")
        if data and self._read == self.len and not self._digest.endswith(f":{self._hasher.hexdigest()}"):
            raise InvalidInput(f"{self._what}: the file does not have this digest")
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data


def open_source(source: Path | bytes) -> tuple[BinaryIO, int]:
    """Open a file or bytes for sending; returns (file, size).

    Raises:
        InvalidInput: There is no such file.
    """
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from None
    return file, os.fstat(file.fileno()).st_size


@dataclass(frozen=True, slots=True)
class Terms:
    """How a download behaves.

    Attributes:
        window: Seconds in which something must arrive.
        retries: How often to go on after a break.
        what: What is fetched, for errors.
    """

    window: float
    retries: RetryPolicy
    what: str


def download(open_from: Open, descriptor: Descriptor, destination: Path, terms: Terms) -> None:
    """Fetch a blob into a file that appears only when size and digest are right.

    Args:
        open_from: How to ask for the bytes from an offset on.
        descriptor: Digest and size to demand.
        destination: Final path; replaced atomically. Its directory must exist.
        terms: How long to wait and how often to try.

    Raises:
        Permanent: Size or digest are wrong.
        Retryable: The connection kept breaking.
    """
    handle, name = tempfile.mkstemp(prefix=f".{destination.name[:40]}-", suffix=".partial", dir=destination.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            _fill(file, open_from, descriptor, terms)
            os.fsync(file.fileno())
        partial.replace(destination)
        sync_directory(destination.parent)
    finally:
        partial.unlink(missing_ok=True)


def _fill(file: io.RawIOBase, open_from: Open, descriptor: Descriptor, terms: Terms) -> None:
    patience, what = Patience(terms.retries), terms.what
    hasher, done = new_hasher(split_digest(descriptor.digest)[0]), 0
    while True:
        try:
            with open_from(done) as response:
                if done and not _resumes(response, done, descriptor.size):
                    hasher, done = new_hasher(split_digest(descriptor.digest)[0]), 0
                    file.seek(0)
                    file.truncate()
                _check_announced(response, descriptor.size - done, what)
                for piece in pieces(response, descriptor.size - done, terms.window, what):
                    _write(file, piece)
                    hasher.update(piece)
                    done += len(piece)
            if done == descriptor.size:
                break
            raise Retryable(f"{what}: the server sent {done} of {descriptor.size} bytes")
        except Retryable:
            if not patience.again():
                raise
    if not descriptor.digest.endswith(f":{hasher.hexdigest()}"):
        raise Permanent(f"{what}: the content has another digest: {hasher.hexdigest()}",
                        hint="the registry or something on the way changed it; nothing was kept")


def _resumes(response: requests.Response, offset: int, size: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (response.status_code == 206 and match is not None and int(match[1]) == offset
            and match[3] in ("*", str(size)))


def _check_announced(response: requests.Response, expected: int, what: str) -> None:
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != expected:
        raise Permanent(f"{what}: the server announces {announced} bytes, the descriptor says {expected}")


def _write(file: io.RawIOBase, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0:]
