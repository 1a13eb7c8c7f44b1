"""What lies on disk, compared with what was written down: bundles with their descriptors, environments with RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.care_ports import Finding
from fuseml_oci.digests import digest_file

#: Holds the descriptor in an unpacked bundle; its digest is that of the config blob.
_DESCRIPTOR = "extension.json"
#: What the package installer puts into an environment without writing it into a RECORD.
_UNRECORDED = frozenset({"_virtualenv.py", "_virtualenv.pth", ".lock", "distutils-precedence.pth"})


class DiskInspection:
    """Implements the port `Inspection`."""

    def files(self, extension: InstalledExtension) -> tuple[int, Sequence[Finding]]:
        """Compare the unpacked bundle with the list of files in its descriptor."""
        root, findings = Path(extension.store), []
        expected = {str(file["path"]): file for file in extension.descriptor.get("files") or []}
        if not root.is_dir():
            return 0, [self._finding(extension, "files", "missing", str(root), "the folder of the bundle is gone")]
        for path, file in expected.items():
            problem = _compare(root / path, str(file["digest"]), bool(file.get("executable")))
            if problem:
                findings.append(self._finding(extension, "files", problem[0], path, problem[1]))
        if extension.config:
            problem = _compare(root / _DESCRIPTOR, extension.config, None)
            if problem:
                findings.append(self._finding(extension, "files", problem[0], _DESCRIPTOR, problem[1]))
        findings += [self._finding(extension, "files", "added", path, "the bundle does not have it")
                     for path in sorted(set(_files_below(root)) - {*expected, _DESCRIPTOR})]
        return len(expected) + 1, findings

    def environment(self, extension: InstalledExtension) -> tuple[int, Sequence[Finding]]:
        """Compare an environment with the records of what is installed in it."""
        root = Path(extension.environment or "")
        if not (root / "bin/python").exists():
            return 0, [self._finding(extension, "environment", "missing", str(root),
                                     "the environment or the interpreter it was built on is gone")]
        count, known, findings = 0, set[str](), []
        for packages in sorted(root.glob("lib/python*/site-packages")):
            for record in sorted(packages.glob("*.dist-info/RECORD")):
                for path, digest in _recorded(record):
                    count += 1
                    full = Path(os.path.normpath(packages / path))
                    known.add(str(full))
                    problem = _compare_record(full, digest)
                    if problem:
                        findings.append(self._finding(extension, "environment", problem[0], path, problem[1]))
            findings += [self._finding(extension, "environment", "added", path, "no installed distribution has it")
                         for path in _files_below(packages)
                         if str(packages / path) not in known and not _is_unrecorded(path)]
        return count, findings

    @staticmethod
    def _finding(extension: InstalledExtension, part: str, problem: str, subject: str, detail: str) -> Finding:
        return Finding(extension.name, part, problem, subject, detail, repairable=True)


def _compare(path: Path, digest: str, executable: bool | None) -> tuple[str, str] | None:
    """What is wrong with a file; None if nothing is."""
    if path.is_symlink():
        return "changed", "it is a symbolic link"
    try:
        found = digest_file(path)[0]
        mode = path.stat().st_mode
    except OSError as error:
        return ("missing", "it is gone") if isinstance(error, FileNotFoundError) else ("changed", str(error))
    if found != digest:
        return "changed", f"it has the digest {found[:19]}… instead of {digest[:19]}…"
    if executable is not None and bool(mode & 0o100) != executable:
        return "changed", "it can be executed now" if mode & 0o100 else "it cannot be executed any more"
    return None


def _compare_record(path: Path, digest: str) -> tuple[str, str] | None:
    try:
        if not digest:
            return None if path.exists() else ("missing", "it is gone")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return "missing", "it is gone"
    except OSError as error:
        return "changed", str(error)
    text = base64.urlsafe_b64encode(found).rstrip(b"=").decode()
    return None if text == digest else ("changed", "its digest is not the recorded one")


def _recorded(record: Path) -> Iterator[tuple[str, str]]:
    """Path and SHA-256, as the record writes it, of each file of a distribution; byte code is nobody's."""
    with record.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            if len(row) >= 2 and not row[0].endswith(".pyc"):
                yield row[0], row[1].removeprefix("sha256=") if row[1].startswith("sha256=") else ""


def _files_below(root: Path) -> Iterator[str]:
    for at, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            yield Path(at, name).relative_to(root).as_posix()


def _is_unrecorded(path: str) -> bool:
    return path in _UNRECORDED or path.endswith((".pyc", ".dist-info/RECORD"))
