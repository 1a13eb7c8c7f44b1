"""The journal of pushes: written by the hook of each repository, read from a byte offset on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuseml_git.git import GitFailed
from fuseml_git.names import FULL, is_name
from fuseml_git.refs import HEADS, TAGS, read_refs
from fuseml_git.repositories import JOURNAL, Repository, all_repositories
from fuseml_sdk.types import CODESET, StoreEvent

READ_LIMIT = 4 << 20


class Journal:
    """Reads the journal, and completes it with what hooks could not write.

    Args:
        root: The store's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / JOURNAL

    def size(self) -> int:
        """Bytes in the journal now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, offset: int) -> tuple[list[StoreEvent], int]:
        """Return events after `offset` bytes, and the offset behind the last whole line."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                data = file.read(READ_LIMIT)
        except FileNotFoundError:
            return [], 0
        whole = data[:data.rfind(b"\n") + 1]
        return [event for line in _lines(whole) if (event := self._event(line))], offset + len(whole)

    def tips(self) -> list[StoreEvent]:
        """An event for the tip of every branch as it is now."""
        return [_created(repository, ref, commit, {"ref": ref})
                for repository in all_repositories(self.root)
                for ref, commit in sorted(read_refs(repository.path, HEADS).items())]

    def complete(self) -> None:
        """Append what moved without the hook telling: a server killed in the middle of a push, a restored backup."""
        known = self._last_known()
        lines = []
        for repository in all_repositories(self.root):
            refs = {**read_refs(repository.path, HEADS), **read_refs(repository.path, TAGS)}
            key = (repository.project, repository.name)
            told = {ref: new for (project, name, ref), new in known.items() if (project, name) == key}
            for ref in sorted(set(refs) | set(told)):
                new, old = refs.get(ref, "0" * 40), told.get(ref, "0" * 40)
                if new != old:
                    lines.append({"time": int(time.time()), "project": repository.project, "name": repository.name,
                                  "ref": ref, "old": old, "new": new})
        if lines:
            self._append("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())

    def _append(self, data: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _last_known(self) -> dict[tuple[str, str, str], str]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        return {(line["project"], line["name"], line["ref"]): line["new"] for line in _lines(data)}

    def _event(self, line: dict[str, Any]) -> StoreEvent | None:
        """Make an event of a line; None for other refs than branches and tags, and when the repository is gone."""
        if not (is_name(line["project"]) and is_name(line["name"]) and FULL.fullmatch(line["new"])):
            return None
        repository, ref, new = Repository(self.root, line["project"], line["name"]), line["ref"], line["new"]
        if not ref.startswith((HEADS, TAGS)) or not (repository.path / "HEAD").is_file():
            return None
        facts = {"ref": ref, "old": line["old"], "pushed_at": line["time"]}
        if not new.strip("0"):
            return _moved(repository, ref, "", facts)
        if ref.startswith(HEADS):
            return _created(repository, ref, new, facts)
        try:
            commit = repository.git("rev-parse", "--verify", "--quiet", f"{new}^{{commit}}").decode().strip()
        except GitFailed:
            return None  # a tag on something that is no commit, or that is gone
        return _moved(repository, ref, f"git:{commit}", facts)


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            value = json.loads(line.decode("utf-8", "replace"))
        except ValueError:
            continue
        if isinstance(value, dict) and value.keys() >= {"time", "project", "name", "ref", "old", "new"}:
            yield value


def _created(repository: Repository, ref: str, commit: str, facts: dict[str, Any]) -> StoreEvent:
    return StoreEvent(type="created", kind=CODESET, project=repository.project, name=repository.name,
                      digest=f"git:{commit}", aliases=[ref.removeprefix(HEADS)], metadata=facts)


def _moved(repository: Repository, ref: str, digest: str, facts: dict[str, Any]) -> StoreEvent:
    return StoreEvent(type="alias-moved", kind=CODESET, project=repository.project, name=repository.name,
                      digest=digest, aliases=[ref.removeprefix(HEADS).removeprefix(TAGS)], metadata=facts)
