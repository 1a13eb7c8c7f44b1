"""Names that are made to be mistaken for others."""

from __future__ import annotations

from collections.abc import Iterable

#: Characters that look alike, each replaced by one of them.
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "2": "z", "8": "b"})


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
