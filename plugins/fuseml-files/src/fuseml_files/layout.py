"""Where contents and descriptors lie: `sha256/<2 hex>/<hex>/` and `index/<kind>/<project>/<name>/<hex>.json`."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import DATASET, MODEL

KINDS = (MODEL, DATASET)
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CONTENTS, MANIFEST = "contents", "manifest.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the store's root."""

    root: Path

    def place(self, digest: str) -> Path:
        """Directory for the contents of this digest and their manifest.

        Raises:
            InvalidInput: It is no sha256 digest.
        """
        if not DIGEST.fullmatch(digest):
            raise InvalidInput(f"{digest!r} is not of the form sha256:<64 hex>")
        hexdigits = digest.removeprefix("sha256:")
        return self.root / "sha256" / hexdigits[:2] / hexdigits

    def holds(self, digest: str) -> bool:
        """Whether contents of this digest are here, completely: they arrive by one rename, after their manifest."""
        return (self.place(digest) / CONTENTS).is_dir()

    def renew(self, digest: str) -> bool:
        """Let contents count as new, so that no collection removes them; False if they are not here."""
        with self._locked():
            if not self.holds(digest):
                return False
            os.utime(self.place(digest))
            return True

    def take_away(self, place: Path, newest: float, forget: Callable[[], object]) -> Path | None:
        """Move contents out of sight unless they are newer than a time; returns where they lie then.

        Args:
            place: Their directory.
            newest: Seconds since the epoch.
            forget: Removes what is written about them, before anybody can register them again.
        """
        with self._locked():
            try:
                if place.stat().st_mtime > newest:
                    return None
                forget()
                return place.rename(self.trash())
            except FileNotFoundError:
                return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """No other thread or process renews or takes away meanwhile."""
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def places(self) -> Iterator[tuple[str, Path]]:
        """Digest and directory of everything that was ever taken in."""
        for path in sorted(self.root.glob("sha256/??/*")):
            digest = f"sha256:{path.name}"
            if DIGEST.fullmatch(digest):
                yield digest, path

    def entries(self, kind: str, project: str, name: str) -> Path:
        """Directory of the descriptors of one name.

        Raises:
            InvalidInput: The store does not keep this kind, or a name is none.
        """
        if kind not in KINDS:
            raise InvalidInput(f"the file store keeps {' and '.join(KINDS)}s, not {kind}s")
        for what, text in (("project", project), (kind, name)):
            if not NAME.fullmatch(text) or ".." in text:
                raise InvalidInput(f"{text!r} cannot name a {what}",
                                   hint="Use 1 to 63 lower-case letters, digits, '-', '_' or '.'.")
        return self.root / "index" / kind / project / name

    def trash(self) -> Path:
        """A new name for something that is to be removed."""
        folder = self.root / "trash"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / secrets.token_hex(8)


def read_json(path: Path) -> dict[str, object] | None:
    """Read a JSON object; None when the file is missing."""
    try:
        value: dict[str, object] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return value
