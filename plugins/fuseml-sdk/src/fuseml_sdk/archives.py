"""Tar archives: written so that equal trees give equal bytes, read so that nothing lands outside."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tarfile import EmptyHeaderError, TruncatedHeaderError  # type: ignore[attr-defined]
from typing import IO, Self

from fuseml_sdk.errors import InvalidInput

_BUFFER = 1 << 20
#: Folders within folders that a member may lie in, and bytes of its whole name; file systems have limits of their own.
MAX_DEPTH, _MAX_NAME = 64, 2048
#: What tarfile raises at damaged archives.
_UNREADABLE = (tarfile.TarError, EOFError, UnicodeError)
#: Largest extended header that is read; names need a few hundred bytes.
_MAX_HEADER = 64 << 10
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
             tarfile.GNUTYPE_LONGLINK)


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


def folded(name: str) -> str:
    """A name as file systems that ignore case or Unicode normalisation see it: equal results would be one file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


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


def write_files(output: IO[bytes], files: Iterable[tuple[str, bytes | Path, bool]]) -> None:
    """Write files as an uncompressed tar archive: same files, same bytes, without directories.

    Args:
        output: Where the bytes go; need not be seekable.
        files: Name, contents (a path is read in blocks) and whether it can be executed; the order does not matter.
    """
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as archive:
        for name, data, executable in sorted(files, key=lambda file: file[0].encode()):
            with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as stream:
                size = os.fstat(stream.fileno()).st_size if isinstance(data, Path) else len(data)
                archive.addfile(_file_info(name, size, executable), stream)


def tar_of(files: Iterable[tuple[str, bytes, bool]]) -> bytes:
    """:func:`write_files` into memory, for small files."""
    buffer = io.BytesIO()
    write_files(buffer, files)
    return buffer.getvalue()


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
            return sorted(_unpack_members(stream, destination, caps))
    except BaseException:
        shutil.rmtree(destination, ignore_errors=True)
        if existed:
            destination.mkdir(exist_ok=True)
        raise


def read_files(stream: IO[bytes], *, limits: Limits | None = None) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Go through the files of an uncompressed tar archive from a stranger, checked as by :func:`unpack`.

    Args:
        stream: The archive.
        limits: See :class:`Limits`.

    Yields:
        Name and contents of each file; the contents come in blocks, until the next file is asked for.

    Raises:
        InvalidInput: The archive is broken or hostile, or holds anything but plain files; the message names the member.
    """
    for archive, member, name in _members(_Counted(stream), "r|", limits or Limits()):
        if not member.isreg():
            raise InvalidInput(f"the archive member {member.name[:200]!r} is not a plain file")
        yield name, _blocks(archive, member)


class _Whole(tarfile.TarInfo):
    """Header blocks that insist on an end and on headers of a sane size.

    tarfile takes an archive that was cut off for a complete one, and reads extended headers into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED and header.size > _MAX_HEADER):
            raise InvalidInput(f"a header of the archive has {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except (TruncatedHeaderError, EmptyHeaderError):
            raise InvalidInput("the archive is cut off or empty") from None


class _Counted:
    """A stream that counts what was read from it, and what came out of it when it was unpacked."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.count, self.unpacked = stream, 0, 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.count += len(block)
        return block


def _members(counted: _Counted, mode: str, caps: Limits) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
    """Archive, member and normalised name of each member that may be unpacked; links are for the caller to check."""
    seen: dict[str, tuple[str, bool]] = {}
    total, count = 0, 0
    try:
        with tarfile.open(fileobj=counted, mode=mode, tarinfo=_Whole) as archive:  # type: ignore[call-overload]
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
                yield archive, member, name
    except _UNREADABLE as error:
        raise InvalidInput(f"the archive cannot be read: {error}") from error


def _guarded(blocks: Iterator[bytes], counted: _Counted, caps: Limits) -> Iterator[bytes]:
    """Pass blocks on until there are too many for what was read of the compressed archive."""
    for block in blocks:
        counted.unpacked += len(block)
        if counted.unpacked > (1 << 20) and counted.unpacked > caps.ratio * max(counted.count, 1):
            raise InvalidInput(f"the archive unpacks to more than {caps.ratio} times its size")
        yield block


def _unpack_members(source: IO[bytes], destination: Path, caps: Limits) -> list[str]:
    links = []
    names: list[str] = []
    counted = _Counted(source)
    for archive, member, name in _members(counted, "r|*", caps):
        blocks = _guarded(_blocks(archive, member), counted, caps) if member.isreg() else iter(())
        _extract(member, blocks, destination / name, destination)
        links += [destination / name] if member.issym() else []
        if not member.isdir():
            names.append(name)
    check_links(links, destination)
    return names


def check_links(links: Iterable[Path], root: Path) -> None:
    """Refuse links that lead out of a folder, also by others together, and those that go in circles.

    Raises:
        InvalidInput: One does; the message names it.
    """
    real = os.path.realpath(root)
    for link in links:
        if not f"{os.path.realpath(link)}/".startswith(f"{real}/"):
            raise InvalidInput(f"the link {link.relative_to(root)} leads out of the directory")
        try:
            link.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise InvalidInput(f"the link {link.relative_to(root)} leads in a circle") from None


def _checked_name(member: tarfile.TarInfo) -> str:
    """The normalised name of a member that may be unpacked."""
    name = member.name.rstrip("/")
    name.encode()
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InvalidInput(f"the archive member {member.name!r} does not stay inside the directory")
    if len(parts) > MAX_DEPTH or len(name.encode()) > _MAX_NAME or any(len(part.encode()) > 255 for part in parts):
        raise InvalidInput(f"the archive member {member.name[:200]!r}… is nested too deeply or has too long a name")
    if not (member.isreg() or member.isdir() or member.issym()) or member.issparse():
        raise InvalidInput(f"the archive member {member.name!r} is a hard link, device, pipe or sparse file")
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise InvalidInput(f"the archive member {member.name!r} has a set-user-id or set-group-id bit")
    return "/".join(parts)


def _check_collision(name: str, directory: bool, seen: dict[str, tuple[str, bool]]) -> None:
    """Refuse names that would be one file where case does not matter, repetitions, and files used as directories."""
    parts = name.split("/")
    for end in range(1, len(parts) + 1):
        here, is_directory = "/".join(parts[:end]), directory or end < len(parts)
        new = folded(here) not in seen
        known, known_directory = seen.setdefault(folded(here), (here, is_directory))
        if new:
            continue
        if known != here:
            raise InvalidInput(f"the archive members {known!r} and {here!r} differ only in case or in how accents are "
                               "encoded")
        if not is_directory:
            raise InvalidInput(f"the archive member {name!r} occurs twice")
        if not known_directory:
            raise InvalidInput(f"the archive member {name!r} needs {here!r} to be a directory")


def _extract(member: tarfile.TarInfo, blocks: Iterator[bytes], target: Path, root: Path) -> None:
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
    mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as output:
        output.writelines(blocks)


def _blocks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The contents of a member."""
    stream = archive.extractfile(member)
    if stream is None:
        raise InvalidInput(f"the archive member {member.name!r} has no contents")
    try:
        while block := stream.read(_BUFFER):
            yield block
    except _UNREADABLE as error:
        raise InvalidInput(f"the archive cannot be read: {error}") from error


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


def _file_info(name: str, size: int, executable: bool) -> tarfile.TarInfo:
    """The header of a file: time 0, owner 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if executable else 0o644
    return info


def _add(archive: tarfile.TarFile, path: Path, name: str, links: bool) -> None:
    info, status = tarfile.TarInfo(name), path.lstat()
    if stat.S_ISLNK(status.st_mode) and links:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        archive.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as stream:
            archive.addfile(_file_info(name, status.st_size, bool(status.st_mode & stat.S_IXUSR)), stream)
    else:
        raise InvalidInput(f"{name} is a symbolic link or no regular file", hint="Put the file itself in its place.")
