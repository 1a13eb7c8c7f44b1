"""What a repository holds, and what of it can be reached (marking)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_oci.descriptor import read_object
from fuseml_registry.configuration import Collection
from fuseml_registry.manifests import contents_of, subject_of
from fuseml_registry.storage import Storage
from fuseml_sdk.errors import InvalidInput

#: Tags that stand for a referrer: the fallback tag of the specification, and cosign's (`sha256-<hex>.sig`).
_ATTACHED = re.compile(r"(sha256|sha512)-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?")


@dataclass(slots=True)
class Held:
    """One manifest of a repository: what it names, its subject, and its tags."""

    digest: str
    changed: float
    is_index: bool
    names: tuple[str, ...] = ()
    subject: str = ""
    tags: list[str] = field(default_factory=list)
    readable: bool = True


def manifests_of(storage: Storage, name: str) -> dict[str, Held]:
    """Read all manifests of a repository."""
    found = {}
    for digest, path in linked(storage, name, "_manifests"):
        try:
            found[digest] = _read(storage, digest, path)
        except FileNotFoundError:
            continue  # deleted meanwhile
    folder = storage.repository(name) / "_tags"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            held = found.get(path.read_text())
        except FileNotFoundError:
            continue
        if held:
            held.tags.append(path.name)
    return found


def linked(storage: Storage, name: str, kind: str) -> Iterator[tuple[str, Path]]:
    """Yield (digest, link) of everything a repository holds; `kind` is `_blobs`, `_manifests` or `_deleted`."""
    folder = storage.repository(name) / kind
    for algorithm in sorted(folder.iterdir()) if folder.is_dir() else []:
        for path in sorted(algorithm.iterdir()):
            yield f"{algorithm.name}:{path.name}", path


def reachable(manifests: dict[str, Held], deleted: frozenset[str], policy: Collection, oldest: float) -> set[str]:
    """Return the digests of the manifests that stay.

    Args:
        manifests: All of a repository.
        deleted: Digests of manifests that were there and were deleted.
        policy: What happens to manifests without a tag and without their subject.
        oldest: Unix time; what is younger stays.
    """
    referrers: dict[str, list[str]] = {}
    for held in manifests.values():
        for subject in attached_to(held, manifests, deleted):
            referrers.setdefault(subject, []).append(held.digest)
    waiting = [held.digest for held in manifests.values() if _is_root(held, manifests, deleted, policy, oldest)]
    found: set[str] = set()
    while waiting:
        digest = waiting.pop()
        if digest in found or digest not in manifests:
            continue
        found.add(digest)
        waiting += referrers.get(digest, [])
        if manifests[digest].is_index:
            waiting += manifests[digest].names
    return found


def removal_order(manifests: dict[str, Held], doomed: set[str], deleted: frozenset[str]) -> list[tuple[str, set[str]]]:
    """Return what is to be removed, each before what depends on it, with all that depends on it.

    An index goes before the manifests that it names, a subject before its referrers: if one of them was used again
    since it was marked, and so stays, what belongs to it can stay too.
    """
    below: dict[str, set[str]] = {digest: set() for digest in doomed}
    for digest in doomed:
        held = manifests[digest]
        if held.is_index:
            below[digest].update(doomed.intersection(held.names))
        for subject in doomed.intersection(attached_to(held, manifests, deleted)):
            below[subject].add(digest)
    order: list[str] = []
    seen: set[str] = set()
    for start in sorted(doomed):
        stack = [(start, False)]
        while stack:
            digest, finished = stack.pop()
            if finished:
                order.append(digest)
            elif digest not in seen:
                seen.add(digest)
                stack += [(digest, True), *((other, False) for other in below[digest])]
    return [(digest, _closure(digest, below)) for digest in reversed(order)]


def _closure(start: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*below[start]]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += below[digest]
    return found


def is_left_over(held: Held, present: dict[str, Held], deleted: frozenset[str]) -> bool:
    """Whether a manifest belongs to a subject that was here and is gone: by its field, or by all of its tags."""
    subjects = attached_to(held, present, deleted)
    return bool(subjects) and not _plain(held) and all(s in deleted and s not in present for s in subjects)


def _is_root(held: Held, manifests: dict[str, Held], deleted: frozenset[str], policy: Collection,
             oldest: float) -> bool:
    if held.changed > oldest or not held.readable:
        return True
    if _plain(held):
        return True
    if is_left_over(held, manifests, deleted):
        return policy.referrers == "keep"
    if held.tags or held.subject:
        # It goes and stays with a subject that is here; one that never was here is somewhere else.
        present = any(subject in manifests for subject in attached_to(held, manifests, deleted))
        return not present or policy.referrers == "keep" or policy.untagged == "keep"
    return policy.untagged == "keep"


def subjects_that_are_gone(held: Held, manifests: dict[str, Held], deleted: frozenset[str]) -> list[str]:
    """Return the digests a manifest is attached to that are not here."""
    return [subject for subject in attached_to(held, manifests, deleted) if subject not in manifests]


def _plain(held: Held) -> list[str]:
    """Tags that stand for themselves."""
    return [tag for tag in held.tags if not _ATTACHED.fullmatch(tag)]


def attached_to(held: Held, manifests: dict[str, Held], deleted: frozenset[str]) -> list[str]:
    """The digests that a manifest is attached to: by its field `subject`, or by a tag made of a digest."""
    found = [held.subject] if held.subject else []
    for tag in held.tags:
        if match := _ATTACHED.fullmatch(tag):
            digest = f"{match[1]}:{match[2]}"
            found.append(digest if match[1] == "sha256" else _whole(digest, manifests, deleted))
    return found


def _whole(start: str, manifests: dict[str, Held], deleted: frozenset[str]) -> str:
    """A fallback tag holds the first 64 digits of a sha512 digest."""
    return next((digest for digest in (*manifests, *deleted) if digest.startswith(start)), start)


def _read(storage: Storage, digest: str, link: Path) -> Held:
    media_type, changed = link.read_text(), link.stat().st_mtime
    held = Held(digest, changed, media_type.endswith(("index.v1+json", "list.v2+json")))
    try:
        document = read_object(storage.blob_path(digest).read_bytes(), digest)
        held.names, held.subject = tuple(contents_of(document, media_type)), subject_of(document)
    except (FileNotFoundError, InvalidInput, KeyError, TypeError, json.JSONDecodeError):
        held.readable = False  # damaged: what it named cannot be known, so that its repository is left alone
    return held
