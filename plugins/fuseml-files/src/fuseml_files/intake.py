"""Taking over a directory as immutable contents.

One rename puts contents in place, so they are there as a whole or not at all; until then the source stays usable, so
that a caller who was interrupted can ask again.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from fuseml_files.layout import CONTENTS, MANIFEST, Layout
from fuseml_files.removal import remove_tree
from fuseml_sdk.contents import identify, scan
from fuseml_sdk.durable import sync_directory, write_durably
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.types import FileEntry


def take_in(layout: Layout, kind: str, source: Path, files: Sequence[FileEntry] | None, digest: str,
            owned: Sequence[Path]) -> tuple[str, list[FileEntry]]:
    """Store a directory.

    Args:
        layout: Where.
        kind: Kind of the artifact; part of the identity.
        source: The directory; it is moved away if it lies below one of `owned`, on the same file system.
        files: Its files with digests as a workload agent computed them; None computes them here.
        digest: The digest that is expected; empty if it is not known.
        owned: Directories whose contents the store may move.

    Returns:
        Digest and files.

    Raises:
        NotFound: The source is not there, and what it held was not taken in before.
        InvalidInput: The contents are not what `files` or `digest` say, or cannot be stored.
    """
    if files is not None and not source.exists():
        found = identify(kind, files).digest  # an interrupted caller asks again after the move
        if layout.renew(found):
            return _checked(found, digest), list(files)
    if not source.is_dir():
        raise NotFound(f"the directory {source} does not exist")
    entries = scan(source) if files is None else _compare(source, files)
    identity = identify(kind, entries)
    _checked(identity.digest, digest)
    if not layout.renew(identity.digest):
        place = layout.place(identity.digest)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(place / MANIFEST, identity.manifest)
        _put(source, place, entries, owned)
    elif _may_move(source, layout.root, owned):
        remove_tree(source)
    return identity.digest, entries


def _checked(found: str, expected: str) -> str:
    if expected and found != expected:
        raise InvalidInput(f"the contents have the digest {found}, not {expected}")
    return found


def _compare(source: Path, files: Sequence[FileEntry]) -> list[FileEntry]:
    """Check names and sizes against what the agent reported; its digests are taken as they are."""
    actual = {path.relative_to(source).as_posix(): path for path in _walk(source)}
    reported = {entry.path: entry for entry in files}
    for path in sorted(actual.keys() ^ reported.keys()):
        where = "is not in the list of files" if path in actual else "is listed and missing"
        raise InvalidInput(f"the file {path} of {source} {where}")
    for path, entry in reported.items():
        size = actual[path].stat().st_size
        if size != entry.size:
            raise InvalidInput(f"the file {path} of {source} has {size} bytes instead of the {entry.size} reported")
    return list(files)


def _walk(folder: Path) -> list[Path]:
    """All files; a link counts as what it points at, if that is a file in the same tree."""
    root = folder.resolve()
    found = []
    for at, _, names in os.walk(folder):
        for name in names:
            path = Path(at, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise InvalidInput(f"the symbolic link {path} leads out of the tree")
            if not stat.S_ISREG(path.stat().st_mode):
                raise InvalidInput(f"{path} is not a file")
            found.append(path)
    return found


def _put(source: Path, place: Path, files: Sequence[FileEntry], owned: Sequence[Path]) -> None:
    if _may_move(source, place, owned):
        _replace_links(source)
        draft = source
    else:
        draft = place / f".{CONTENTS}-{secrets.token_hex(4)}"
        try:
            shutil.copytree(source, draft, symlinks=False)
        except BaseException:
            remove_tree(draft)
            raise
    _freeze(draft, files)
    try:
        draft.rename(place / CONTENTS)
    except OSError:
        if not (place / CONTENTS).is_dir():  # else somebody else was faster with the same contents
            raise
        remove_tree(draft)
    (place / CONTENTS).chmod(0o555)
    sync_directory(place)
    sync_directory(place.parent)


def _may_move(source: Path, place: Path, owned: Sequence[Path]) -> bool:
    real = source.resolve()
    below = any(real.is_relative_to(root.resolve()) and real != root.resolve() for root in owned)
    return below and not source.is_symlink() and real.stat().st_dev == place.stat().st_dev


def _replace_links(source: Path) -> None:
    """Put copies in the place of links: a link with an absolute target would break with the move."""
    for at, _, names in os.walk(source):
        for path in (Path(at, name) for name in names):
            if path.is_symlink():
                draft = path.with_name(f".{secrets.token_hex(8)}")
                shutil.copyfile(path, draft)
                draft.replace(path)


def _freeze(folder: Path, files: Sequence[FileEntry]) -> None:
    """Make files and directories durable and read-only; the top stays writable for the rename (rename(2))."""
    for entry in files:
        path = folder / entry.path
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(handle)
            os.fchmod(handle, 0o555 if entry.executable else 0o444)
        finally:
            os.close(handle)
    for at, _, _ in os.walk(folder, topdown=False):
        sync_directory(Path(at))
        if Path(at) != folder:
            Path(at).chmod(0o555)
    folder.chmod(0o755)
