"""Looking for what must not be published: secrets in files, and names made to be mistaken for others."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Bytes of one file that are looked at, and of all files together.
_FILE, _TOTAL = 2 << 20, 256 << 20
#: What it is called -> how it looks. The forms are those that their issuers document.
_SECRETS = {
    "private key": rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "AWS access key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "GitLab token": rb"\bglpat-[A-Za-z0-9_-]{20,}",
    "Slack token": rb"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "Google API key": rb"\bAIza[0-9A-Za-z_-]{35}\b",
    "npm token": rb"\bnpm_[A-Za-z0-9]{36}\b",
    "PyPI token": rb"\bpypi-AgE[A-Za-z0-9_-]{50,}",
    "Hugging Face token": rb"\bhf_[A-Za-z0-9]{34,}\b",
    "password in a URL": rb"[a-z][a-z0-9+.-]{1,15}://[^\s/:@'\"{}<>$]{1,100}:[^\s/:@'\"{}<>$*]{3,100}@[a-z0-9.-]+",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _SECRETS.items()}
#: Characters that look alike, each replaced by one of them.
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z", "8": "b"})


def secrets_in(folder: Path) -> list[str]:
    """Find what looks like a secret in the files of an unpacked bundle, and inside its wheels.

    Args:
        folder: The unpacked bundle.

    Returns:
        Sentences such as `files/conf.py, line 3: AWS access key`; never the secret itself.
    """
    found, left = [], _TOTAL
    for name, data in _files(folder):
        left -= len(data)
        if left < 0:
            found.append(f"only the first {_TOTAL >> 20} MiB were searched")
            break
        for what, pattern in _PATTERNS.items():
            if match := pattern.search(data):
                line = data.count(b"\n", 0, match.start()) + 1
                found.append(f"{name}, line {line}: {what}")
    return found


def lookalikes(name: str, others: Iterable[str]) -> list[str]:
    """Names that people could take for this one: equal but for hyphens and look-alike characters, or one edit away."""
    plain = _plain(name)
    return sorted(other for other in others if other != name and (
        _plain(other) == plain or (min(len(name), len(other)) >= 5 and _one_edit(name, other))))


def _plain(name: str) -> str:
    return name.replace("-", "").translate(_ALIKE).replace("rn", "m").replace("vv", "w")


def _one_edit(left: str, right: str) -> bool:
    """Whether one character inserted, removed or changed, or two neighbours swapped, makes one into the other."""
    if abs(len(left) - len(right)) > 1:
        return False
    start = next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    a, b = left[start:], right[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[:2][::-1] and a[2:] == b[2:])


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".whl":
            yield from _members(path, name)
        else:
            with path.open("rb") as file:
                yield name, file.read(_FILE)


def _members(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.infolist()[:20_000]:
                with wheel.open(member) as file:
                    yield f"{name}: {member.filename}", file.read(_FILE)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        yield f"{name}: cannot be opened", b""
