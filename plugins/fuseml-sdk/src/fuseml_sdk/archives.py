"""Tar archives: written so that equal trees give equal bytes, read so that nothing lands outside."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tarfile import EmptyHeaderError, TruncatedHeaderError  # type: ignore[attr-defined]
from typing import IO, Self

from fuseml_sdk.errors import InvalidInput

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may contain before it is refused.

    Attributes:
        members: Files and directories.
        size: Bytes of all files together.
        ratio: Bytes unpacked for each byte of a compressed archive.
    """

    members: int = 100_000
    size: int = 64 << 30
    ratio: int = 200


def write_tar(output: IO[bytes], directory: Path, paths: Iterable[str] | None = None, *,
              links: bool = False) -> None:
    """Write a directory as an uncompressed tar archive: same tree, same bytes, on any machine.

    Names are sorted; times, owners and extended attributes are left out; modes are 0644 or 0755.

    Args:
        output: Where the bytes go; need not be seekable.
        directory: The tree.
        paths: Files to include, relative to `directory`; everything by default. Directories above them are added.
        links: Store symbolic links as they are; otherwise they are refused.

    Raises:
        InvalidInput: Something is neither file nor directory, or a link without `links`.
    """
    names = sorted(_closure(paths) if paths is not None else _tree(directory), key=lambda name: name.encode())
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as archive:
        for name in names:
            _add(archive, directory / name, name, links)


def tar_bytes(directory: Path, paths: Iterable[str] | None = None, *, links: bool = False) -> bytes:
    """:func:`write_tar` into memory, for small trees."""
    buffer = io.BytesIO()
    write_tar(buffer, directory, paths, links=links)
    return buffer.getvalue()


def unpack(source: Path | IO[bytes], destination: Path, *, limits: Limits | None = None) -> list[str]:
    """Unpack a tar archive from a stranger into a fresh directory.

    Refused as a whole, leaving nothing: absolute names and `..`, links that leave the directory, writing through
    links, devices, names that differ only in case or occur twice, set-user-id bits, more than `limits` allow.

    Args:
        source: File or readable stream, compressed or not.
        destination: Must not exist or be empty.
        limits: See :class:`Limits`.

    Returns:
        The names of the files, sorted.

    Raises:
        InvalidInput: The archive is broken or hostile; the message names the member.
    """
    caps = limits or Limits()
    if destination.exists() and any(destination.iterdir()):
        raise InvalidInput(f"{destination} is not empty", hint="Unpack into a fresh directory.")
    existed = destination.exists()
    destination.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
            counted = _Counted(stream)
            with tarfile.open(fileobj=counted, mode="r|*", tarinfo=_Whole) as archive:  # type: ignore[call-overload]
                return sorted(_unpack_members(archive, counted, destination, caps))
    except BaseException as error:
        shutil.rmtree(destination, ignore_errors=True)
        if existed:
            destination.mkdir(exist_ok=True)
        if isinstance(error, tarfile.TarError | EOFError | UnicodeError):
            raise InvalidInput(f"the archive cannot be read: {error}") from error
        raise


class _Whole(tarfile.TarInfo):
    """Header blocks that insist on an end: tarfile takes an archive that was cut off for a complete one."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except (TruncatedHeaderError, EmptyHeaderError):
            raise InvalidInput("the archive is cut off or empty") from None


class _Counted:
    """A stream that counts what was read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.count = stream, 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.count += len(block)
        return block


def _unpack_members(archive: tarfile.TarFile, source: _Counted, destination: Path, caps: Limits) -> list[str]:
    seen: dict[str, tuple[str, bool]] = {}
    links = []
    names: list[str] = []
    total = count = 0
    for member in archive:
        count += 1
        if count > caps.members:
            raise InvalidInput(f"the archive has more than {caps.members} members")
        name = _checked_name(member)
        if not name:
            continue
        _check_collision(name, member.isdir(), seen)
        total += member.size if member.isreg() else 0
        if total > caps.size:
            raise InvalidInput(f"the archive unpacks to more than {caps.size} bytes")
        if total > (1 << 20) and total > caps.ratio * max(source.count, 1):
            raise InvalidInput(f"the archive unpacks to more than {caps.ratio} times its size")
        _extract(archive, member, destination / name, destination)
        links += [destination / name] if member.issym() else []
        if not member.isdir():
            names.append(name)
    _check_links(links, destination)
    return names


def _check_links(links: list[Path], root: Path) -> None:
    """Refuse chains of links that lead out together although each alone does not."""
    real = os.path.realpath(root)
    for link in links:
        if not f"{os.path.realpath(link)}/".startswith(f"{real}/"):
            raise InvalidInput(f"the link {link.relative_to(root)} leads out of the directory")


def _checked_name(member: tarfile.TarInfo) -> str:
    """The normalised name of a member that may be unpacked."""
    name = member.name.rstrip("/")
    name.encode()
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InvalidInput(f"the archive member {member.name!r} does not stay inside the directory")
    if not (member.isreg() or member.isdir() or member.issym()):
        raise InvalidInput(f"the archive member {member.name!r} is a hard link, device or pipe")
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise InvalidInput(f"the archive member {member.name!r} has a set-user-id or set-group-id bit")
    return "/".join(parts)


def _check_collision(name: str, directory: bool, seen: dict[str, tuple[str, bool]]) -> None:
    """Refuse names that would be one file where case does not matter, repetitions, and files used as directories."""
    parts = name.split("/")
    for end in range(1, len(parts) + 1):
        here, is_directory = "/".join(parts[:end]), directory or end < len(parts)
        new = here.casefold() not in seen
        known, known_directory = seen.setdefault(here.casefold(), (here, is_directory))
        if new:
            continue
        if known != here:
            raise InvalidInput(f"the archive members {known!r} and {here!r} differ only in case")
        if not is_directory:
            raise InvalidInput(f"the archive member {name!r} occurs twice")
        if not known_directory:
            raise InvalidInput(f"the archive member {name!r} needs {here!r} to be a directory")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, root: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        landing = os.path.normpath(target.parent / member.linkname)
        if member.linkname.startswith("/") or not f"{landing}/".startswith(f"{root}/"):
            raise InvalidInput(f"the link {member.name!r} leads out of the directory")
        target.symlink_to(member.linkname)
        return
    stream = archive.extractfile(member)
    if stream is None:
        raise InvalidInput(f"the archive member {member.name!r} has no contents")
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as output:
        shutil.copyfileobj(stream, output, _BUFFER)


def _tree(directory: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            yield (Path(folder) / name).relative_to(directory).as_posix()


def _closure(paths: Iterable[str]) -> set[str]:
    """The paths and every directory above them."""
    found: set[str] = set()
    for path in paths:
        parts = Path(path).as_posix().split("/")
        if ".." in parts or path.startswith("/"):
            raise InvalidInput(f"{path} does not lie inside the directory")
        found.update("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return found


def _add(archive: tarfile.TarFile, path: Path, name: str, links: bool) -> None:
    info, status = tarfile.TarInfo(name), path.lstat()
    if stat.S_ISLNK(status.st_mode) and links:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        archive.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size, info.mode = status.st_size, 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        with path.open("rb") as stream:
            archive.addfile(info, stream)
    else:
        raise InvalidInput(f"{name} is a symbolic link or no regular file", hint="Put the file itself in its place.")
