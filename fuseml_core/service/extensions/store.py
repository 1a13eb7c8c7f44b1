"""The folder of unpacked bundles: immutable, one folder for each digest."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from fuseml_sdk.durable import sync_directory

#: Written into every bundle; its presence says that a folder is complete.
_COMPLETE = "extension.json"


class BundleStore:
    """Unpacked bundles below one folder.

    Args:
        root: The folder, such as `<home>/extensions/store`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the bundle with this digest lies or would lie."""
        return self.root / digest.partition(":")[2]

    def has(self, digest: str) -> bool:
        """Whether it is there, complete."""
        return (self.path(digest) / _COMPLETE).is_file()

    def put(self, digest: str, unpack: Callable[[Path], None]) -> Path:
        """Unpack a bundle beside its place and rename it; readers see all of it or nothing.

        Args:
            digest: Of the bundle.
            unpack: Makes the folder it is given.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".tmp-{secrets.token_hex(8)}"
        target = self.path(digest)
        try:
            unpack(temporary)
            if target.exists():
                self.discard(digest)
            temporary.rename(target)
            sync_directory(self.root)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return target

    def discard(self, digest: str) -> None:
        """Remove a bundle; being gone already is fine. It disappears at once, then its files are deleted."""
        path = self.path(digest)
        if path.exists():
            doomed = self.root / f".tmp-{secrets.token_hex(8)}"
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def digests(self) -> list[str]:
        """Of all bundles that are there."""
        return [f"sha256:{path.name}" for path in sorted(self.root.glob("*")) if not path.name.startswith(".")]

    def clean(self, keep: Collection[str]) -> list[str]:
        """Remove what a crash left behind and bundles whose digest is not in `keep`; returns their digests."""
        removed = []
        names = {digest.partition(":")[2] for digest in keep}
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            if path.name.startswith(".tmp-"):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in names and path.is_dir():
                self.discard(f"sha256:{path.name}")
                removed.append(f"sha256:{path.name}")
        return removed
