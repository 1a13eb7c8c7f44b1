"""Downloading blobs: hashed while they stream, resumed when a connection breaks, visible only when verified."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from fuseml_oci.bodies import pieces
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import BUFFER, Hasher, new_hasher, split_digest
from fuseml_oci.progress import Watch
from fuseml_oci.retries import Patience, RetryPolicy
from fuseml_oci.sections import Source, open_source
from fuseml_sdk.durable import sync_directory
from fuseml_sdk.errors import InvalidInput, Permanent, Retryable

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

#: Opens the blob from an offset: sends the GET and returns a streaming response with status 200 or 206.
Open = Callable[[int], requests.Response]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a download behaves.

    Attributes:
        window: Seconds in which something must arrive.
        retries: How often to go on after a break that brought nothing.
        what: What is fetched, for errors.
        watch: Told how many bytes have arrived.
        keep: Leave what has arrived beside the destination when the connection is lost for good, so that the next
            download of the same blob goes on from there.
    """

    window: float
    retries: RetryPolicy
    what: str
    watch: Watch | None = None
    keep: bool = False


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
        InvalidInput: The disk is full or the folder cannot be written.
    """
    with _partial(destination, descriptor, terms.keep) as (path, file):
        kept = False
        try:
            _fill(file, open_from, descriptor, terms)
            os.fsync(file.fileno())
            path.replace(destination)
            sync_directory(destination.parent)
        except Retryable:
            kept = terms.keep
            raise
        except OSError as error:
            raise InvalidInput(f"{terms.what}: {destination} cannot be written: {error.strerror}") from None
        finally:
            if not kept:
                path.unlink(missing_ok=True)


def store(source: Source, descriptor: Descriptor, destination: Path, watch: Watch | None = None) -> None:
    """Copy some bytes of this machine into a file that appears only when size and digest are right.

    Raises:
        InvalidInput: They are wrong, or the file cannot be written.
    """
    hasher, done = new_hasher(split_digest(descriptor.digest)[0]), 0
    reading, _ = open_source(source)
    with reading, _partial(destination, descriptor, keep=False) as (path, file):
        try:
            _again(file, "sha256")
            while data := reading.read(BUFFER):
                _write(file, data)
                hasher.update(data)
                done += len(data)
                if watch:
                    watch(done)
            if done != descriptor.size or not _right(descriptor, hasher):
                raise InvalidInput(f"{descriptor.digest}: the content has another digest or size than was said",
                                   hint="The file was changed or damaged; build or fetch it again.")
            os.fsync(file.fileno())
            path.replace(destination)
            sync_directory(destination.parent)
        except OSError as error:
            raise InvalidInput(f"{destination} cannot be written: {error.strerror}") from None
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _partial(destination: Path, descriptor: Descriptor, keep: bool) -> Iterator[tuple[Path, io.FileIO]]:
    """The file for what arrives: of this download alone, or the one an earlier download of the blob has left."""
    folder, name = destination.parent, f".{split_digest(descriptor.digest)[1][:40]}"
    number = 0
    while True:
        path = folder / (f"{name}.partial" if keep and not number else f"{name}-{os.getpid()}-{number}.partial")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
        file = os.fdopen(handle, "r+b", buffering=0)
        if _taken(file, path):
            break
        file.close()
        number += 1  # somebody else downloads the same blob
    with file:
        yield path, file


def _taken(file: io.FileIO, path: Path) -> bool:
    """Lock a file; False if another one holds it, or has just moved it away."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    own = os.fstat(file.fileno())
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def _left_over(file: io.FileIO, size: int, hasher: Hasher) -> int:
    """Hash what an earlier download has left; returns how many bytes that are."""
    done = 0
    while done <= size and (data := file.read(BUFFER)):
        hasher.update(data)
        done += len(data)
    return done


def _fill(file: io.FileIO, open_from: Open, descriptor: Descriptor, terms: Terms) -> None:
    algorithm = split_digest(descriptor.digest)[0]
    hasher = new_hasher(algorithm)
    done = _left_over(file, descriptor.size, hasher)
    if done > descriptor.size or (done and done == descriptor.size and not _right(descriptor, hasher)):
        hasher, done = _again(file, algorithm), 0
    while True:
        resumed = done > 0
        if not done or done < descriptor.size:
            hasher = _receive(file, open_from, descriptor, terms, hasher, done)
        if _right(descriptor, hasher):
            return
        if not resumed:
            raise Permanent(f"{terms.what}: the content has another digest: {hasher.hexdigest()}",
                            hint="the registry or something on the way changed it; nothing was kept")
        hasher, done = _again(file, algorithm), 0  # what an earlier download had left was damaged


def _receive(file: io.FileIO, open_from: Open, descriptor: Descriptor, terms: Terms, hasher: Hasher,
             done: int) -> Hasher:
    """Fetch from byte `done` to the end, through as many breaks as the terms allow; returns the hasher of the whole."""
    algorithm, patience, mark = split_digest(descriptor.digest)[0], Patience(terms.retries), done
    while True:
        try:
            with open_from(done) as response:
                if done and not _resumes(response, done, descriptor.size):
                    hasher, mark, done = _again(file, algorithm), 0, 0
                _check_announced(response, descriptor.size - done, terms.what)
                for piece in pieces(response, descriptor.size - done, terms.window, terms.what):
                    _write(file, piece)
                    hasher.update(piece)
                    done += len(piece)
                    if terms.watch:
                        terms.watch(done)
            if done == descriptor.size:
                return hasher
            raise Retryable(f"{terms.what}: the server sent {done} of {descriptor.size} bytes")
        except Retryable as error:
            if done - mark >= BUFFER:
                patience = Patience(terms.retries)  # it goes on, if slowly
            if not patience.again(error.details.get("retry_after")):
                raise
            mark = done


def _again(file: io.FileIO, algorithm: str) -> Hasher:
    file.seek(0)
    file.truncate()
    return new_hasher(algorithm)


def _right(descriptor: Descriptor, hasher: Hasher) -> bool:
    return descriptor.digest.endswith(f":{hasher.hexdigest()}")


def _resumes(response: requests.Response, offset: int, size: int) -> bool:
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (response.status_code == 206 and match is not None and int(match[1]) == offset
            and match[3] in ("*", str(size)))


def _check_announced(response: requests.Response, expected: int, what: str) -> None:
    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != expected:
        raise Permanent(f"{what}: the server announces {announced} bytes, the descriptor says {expected}")


def _write(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0:]
