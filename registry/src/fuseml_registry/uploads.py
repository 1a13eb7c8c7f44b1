"""Upload sessions: bytes arrive in order, are hashed on the way and become a blob when their digest is right.

A session is a directory `uploads/<id>` with `data` and `algorithm`. Its length on disk is its state, so it survives a
restart of the server; the hash is then computed again from the file. Nothing of a session is visible as a blob
before it is complete, verified and on disk.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_oci.digests import BUFFER, Hasher, digest_file, new_hasher, split_digest
from fuseml_registry.errors import FULL, RegistryError, digest_invalid, storage_full, upload_unknown
from fuseml_registry.storage import Storage

#: Seconds without a byte after which a session is forgotten.
EXPIRY = 24 * 3600.0
#: Sessions at the same time.
MOST = 2000
#: Bytes after which data goes to disk while more arrives, so that the end of a large upload does not wait for it all.
SYNC_EVERY = 64 << 20
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class Session:
    """One unfinished upload.

    Attributes:
        key: Its identifier in URLs.
        name: Repository it belongs to.
        offset: Bytes that are accepted.
        busy: Held by the request that is adding bytes.
    """

    key: str
    name: str
    path: Path
    algorithm: str
    hasher: Hasher
    offset: int = 0
    synced: int = 0
    busy: threading.Lock = field(default_factory=threading.Lock)

    @property
    def data(self) -> Path:
        """File with the bytes so far."""
        return self.path / "data"


class Uploads:
    """All sessions of a registry. Methods do disk work and are called from threads.

    Args:
        storage: Where finished blobs go.
        expiry: Seconds without a byte after which a session is forgotten.
        most: Sessions at the same time.
        largest: Bytes of the largest blob; 0 is no limit.
    """

    def __init__(self, storage: Storage, expiry: float = EXPIRY, *, most: int = MOST, largest: int = 0) -> None:
        self._storage = storage
        self._expiry, self._most, self._largest = expiry, most, largest
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._swept = 0.0

    def start(self, name: str, algorithm: str = "sha256") -> Session:
        """Open a session; forgets expired ones now and then.

        Raises:
            RegistryError: TOOMANYREQUESTS when there are too many; 507 when the disk is full.
        """
        self.sweep()
        if self.count() >= self._most:
            raise RegistryError(429, "TOOMANYREQUESTS", f"there are {self._most} unfinished uploads; finish or cancel "
                                "some", headers={"Retry-After": "60"})
        key = uuid.uuid4().hex
        path = self._storage.uploads / key
        try:
            path.mkdir()
            (path / "algorithm").write_text(algorithm)
            (path / "repository").write_text(name)
            (path / "data").touch()
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        session = Session(key, name, path, algorithm, new_hasher(algorithm))
        with self._lock:
            self._sessions[key] = session
        return session

    def get(self, name: str, key: str) -> Session:
        """Return an open session of a repository.

        Raises:
            RegistryError: BLOB_UPLOAD_UNKNOWN.
        """
        if not _ID.fullmatch(key):
            raise upload_unknown(key)
        with self._lock:
            session = self._sessions.get(key) or self._reopen(key)
            if session is None or session.name != name or not session.data.exists():
                self._sessions.pop(key, None)
                raise upload_unknown(key)
            self._sessions[key] = session
        return session

    def count(self) -> int:
        """Return how many sessions there are."""
        return sum(1 for _ in os.scandir(self._storage.uploads))

    def append(self, session: Session, data: bytes | bytearray) -> None:
        """Add bytes at the end: all of them or none.

        Raises:
            RegistryError: 507 when the disk is full; the session stays as it was.
        """
        view = memoryview(data)
        if self._largest and session.offset + len(view) > self._largest:
            raise RegistryError(413, "SIZE_INVALID", f"a blob may have at most {self._largest} bytes here")
        try:
            with session.data.open("r+b", buffering=0) as file:
                file.seek(session.offset)
                _write_all(file.fileno(), view)
                if session.offset + len(view) - session.synced >= SYNC_EVERY:
                    os.fdatasync(file.fileno())
                    session.synced = session.offset + len(view)
        except FileNotFoundError:
            raise upload_unknown(session.key) from None
        except OSError as error:
            os.truncate(session.data, session.offset)
            if error.errno in FULL:
                raise storage_full(f"the session holds its first {session.offset} bytes; "
                                   "free space and go on") from None
            raise
        session.hasher.update(view)
        session.offset += len(view)

    def roll_back(self, session: Session, offset: int) -> None:
        """Forget bytes after `offset`, because the request that brought them failed."""
        if session.offset == offset or not session.data.exists():
            return
        os.truncate(session.data, offset)
        session.offset, session.synced = offset, min(session.synced, offset)
        session.hasher = _hash_of(session.data, session.algorithm)

    def finish(self, session: Session, digest: str) -> None:
        """Verify the bytes and make them a blob of the repository.

        Raises:
            RegistryError: DIGEST_INVALID; the session stays. BLOB_UPLOAD_UNKNOWN if it has just expired.
        """
        if not session.data.exists():
            raise upload_unknown(session.key)
        algorithm, _ = split_digest(digest)
        if algorithm == session.algorithm:
            found = f"{algorithm}:{session.hasher.hexdigest()}"
        else:
            found, _ = digest_file(session.data, algorithm)
        if found != digest:
            raise digest_invalid(f"the {session.offset} uploaded bytes have the digest {found}, not {digest}")
        with session.data.open("rb") as file:
            os.fsync(file.fileno())
        self._storage.take_blob(session.name, session.data, digest)
        self.cancel(session)

    def cancel(self, session: Session) -> None:
        """Forget a session and its bytes."""
        with self._lock:
            self._sessions.pop(session.key, None)
        shutil.rmtree(session.path, ignore_errors=True)

    def sweep(self, *, dry_run: bool = False, at_once: bool = False) -> int:
        """Forget sessions without a byte for longer than the expiry; returns how many.

        Args:
            dry_run: Only count them.
            at_once: Look even if the last look was less than a minute ago.
        """
        now = time.time()
        if not at_once and now - self._swept < min(60.0, self._expiry / 2):
            return 0
        self._swept, count = now, 0
        for path in self._storage.uploads.iterdir():
            idle = now - _last_change(path)
            if idle > self._expiry and not self._active(path.name):
                count += 1
                if not dry_run:
                    self._forget(path)
        return count

    def _forget(self, path: Path) -> None:
        with self._lock:
            self._sessions.pop(path.name, None)
        shutil.rmtree(path, ignore_errors=True)

    def _active(self, key: str) -> bool:
        session = self._sessions.get(key)
        return session is not None and session.busy.locked()

    def _reopen(self, key: str) -> Session | None:
        """Take up a session that an earlier process of the server began."""
        path = self._storage.uploads / key
        try:
            algorithm, name = (path / "algorithm").read_text(), (path / "repository").read_text()
            size = (path / "data").stat().st_size
        except FileNotFoundError:
            return None
        return Session(key, name, path, algorithm, _hash_of(path / "data", algorithm), size)


def _last_change(path: Path) -> float:
    """Unix time of the last byte; a crash may have left a session without its file, an end removes both."""
    for candidate in (path / "data", path):
        try:
            return candidate.stat().st_mtime
        except FileNotFoundError:
            continue
    return time.time()


def _hash_of(path: Path, algorithm: str) -> Hasher:
    hasher = new_hasher(algorithm)
    with path.open("rb", buffering=0) as file:
        while data := file.read(BUFFER):
            hasher.update(data)
    return hasher


def _write_all(handle: int, view: memoryview) -> None:
    while view:
        view = view[os.write(handle, view):]
