"""The files of a commit, and the text of small ones."""

from __future__ import annotations

from collections.abc import Sequence

from fuseml_git.repositories import Repository
from fuseml_sdk.globs import matches
from fuseml_sdk.types import FileEntry, FileListing

EXECUTABLE_MODE = "100755"


def list_files(repository: Repository, commit: str) -> list[FileEntry]:
    """Return all files of a commit, by path. Submodules are no files of this commit and are left out."""
    output = repository.git("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
    files = []
    for record in output.decode("utf-8", "surrogateescape").split("\0"):
        if not record:
            continue
        facts, _, path = record.partition("\t")
        mode, kind, blob, size = facts.split()
        if kind == "blob":
            files.append(FileEntry(path=_printable(path), size=int(size), digest=f"git:{blob}",
                                   executable=mode == EXECUTABLE_MODE))
    return files


def read_listing(repository: Repository, commit: str, read: Sequence[str], max_bytes: int) -> FileListing:
    """Return all files, with the text of those that match `read` and have at most `max_bytes`."""
    files = list_files(repository, commit)
    wanted = [f for f in files if read and f.size <= max_bytes and matches(f.path, read)]
    return FileListing(files=files, contents=_read_blobs(repository, wanted))


def _read_blobs(repository: Repository, files: Sequence[FileEntry]) -> dict[str, str]:
    if not files:
        return {}
    names = [f.digest.removeprefix("git:") for f in files]
    output = repository.git("cat-file", "--batch", stdin="\n".join([*names, ""]).encode())
    contents: dict[str, str] = {}
    place = 0
    for file in files:
        line_end = output.index(b"\n", place)
        size = int(output[place:line_end].split()[2])
        contents[file.path] = output[line_end + 1:line_end + 1 + size].decode("utf-8", "replace")
        place = line_end + 1 + size + 1
    return contents


def _printable(path: str) -> str:
    """A path that is not UTF-8 cannot travel as JSON; its odd bytes are replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
