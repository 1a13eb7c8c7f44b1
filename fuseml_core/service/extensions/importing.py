"""Importing extensions: take an archive in, then install what it was made for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fuseml_core.domain.errors import FusemlError
from fuseml_core.service.extensions.care_ports import Admission, ImportedBundle, Imports
from fuseml_core.service.extensions.ports import ChangeLock, Progress

#: Installs references of this server's own registry, offline: references, whether unsigned bundles are let in.
Install = Callable[[Sequence[str], bool, Progress], dict[str, Any]]
_PATIENCE = 3600.0


class Importer:
    """The use case *import*.

    Args:
        imports: Takes archives in.
        install: Installs what is in the embedded registry.
        lock: Lets one change run at a time.
    """

    def __init__(self, imports: Imports, install: Install, lock: ChangeLock) -> None:
        self._imports, self._install, self._lock = imports, install, lock
        self._users: Counter[str] = Counter()
        self._done: set[str] = set()
        self._guard = threading.Lock()

    def received(self, digest: str) -> int:
        """See the port."""
        return self._imports.received(digest)

    def receive(self, digest: str, offset: int, data: bytes) -> int:
        """See the port."""
        return self._imports.receive(digest, offset, data)

    def take_in(self, digest: str, terms: Admission, *, install: bool, progress: Progress) -> dict[str, Any]:
        """Let an archive in and install what somebody asked for when it was made.

        The archive stays until all is done, so that the same command goes on where it was cut short.

        Args:
            digest: SHA-256 of the file, 64 hexadecimal digits.
            terms: Keys and whether unsigned bundles are let in.
            install: Install as well.
            progress: Told what is being done.

        Returns:
            `bundles` (name, version, digest, original, local, requested, trust) and `installed` (what the
            installation answered; None without one).

        Raises:
            Refused, Invalid: Nothing was changed.
            Conflict, Failed, Unavailable: The bundles are in the registry, and the installation failed.
        """
        with self._using(digest):
            with self._lock.alone("import of an archive", _PATIENCE, progress):
                try:
                    bundles = self._imports.admit(digest, terms, progress)
                except FusemlError:
                    self._done.add(digest)
                    raise
            installed = self._install_requested(bundles, terms, progress) if install else None
            self._done.add(digest)
        return {"bundles": [asdict(bundle) for bundle in bundles], "installed": installed}

    @contextmanager
    def _using(self, digest: str) -> Iterator[None]:
        """Count who takes an archive in, for two may send the same one; the last to end forgets what is done with."""
        with self._guard:
            self._users[digest] += 1
        try:
            yield
        finally:
            with self._guard:
                self._users[digest] -= 1
                if not self._users[digest]:
                    del self._users[digest]
                    if digest in self._done:
                        self._done.remove(digest)
                        self._imports.discard(digest)

    def _install_requested(self, bundles: Sequence[ImportedBundle], terms: Admission,
                           progress: Progress) -> dict[str, Any]:
        """All in one change: what others need first, each exactly as in the archive."""
        references = [bundle.local for bundle in bundles if bundle.requested] or [b.local for b in bundles]
        return self._install(references, terms.allow_unsigned, progress)
