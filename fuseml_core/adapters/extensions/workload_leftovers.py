"""What work leaves behind: folders of workloads, cached runnables, contents of artifacts that are gone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

from fuseml_core.adapters.extensions.leftovers import age_of, entries, size_of
from fuseml_core.domain.errors import Unavailable
from fuseml_core.host import AgentFacade, StoreFacade
from fuseml_core.service.extensions.care_ports import Leftover
from fuseml_oci.runnables import forget
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import PluginError

_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_FINAL = ("succeeded", "failed", "cancelled")


class Usage(Protocol):
    """What the database knows; see `SqlUsage`."""

    def versions(self, kinds: Collection[str] | None = None) -> frozenset[str]:
        """Digests of artifacts that exist or that a run uses."""
        ...

    def workloads(self) -> frozenset[str]:
        """Workloads of runs that have not ended and of services."""
        ...

    def outputs(self) -> frozenset[str]:
        """Locations that steps passed on without registering what lies there."""
        ...


class Plugins(Protocol):
    """Stores and agents; see `HostedPlugins`."""

    def agent(self, name: str) -> AgentFacade:
        """A workload agent."""
        ...

    def stores(self) -> Sequence[tuple[str, StoreFacade]]:
        """All stores by name."""
        ...


class EndedWorkloads:
    """Folders of workloads that ended long ago; implements `Leftovers`.

    Args:
        root: Folder of workloads.
        usage: What the database knows.
        agent: Returns the agent that they belong to.
    """

    def __init__(self, root: Path, usage: Usage, agent: Callable[[], AgentFacade]) -> None:
        self._root, self._usage, self._agent = root, usage, agent

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Workloads by name."""
        needed, passed_on = self._usage.workloads(), self._usage.outputs()
        found = []
        for path in entries(self._root):
            if path.name.startswith(".") or path.name in needed or any(f"/{path.name}/" in uri for uri in passed_on):
                continue
            ended = _ended_at(path)
            if ended is not None and time.time() - ended >= older_than:
                found.append(Leftover("workload", path.name, "it ended, and its results are registered or gone",
                                      size_of(path), time.time() - ended, path.name))
        return found

    def remove(self, leftover: Leftover) -> bool:
        """Let the agent forget it, which refuses what has not ended."""
        if leftover.key in self._usage.workloads():
            return False
        try:
            return self._agent().collect(leftover.key)
        except PluginError as error:
            raise Unavailable(error.message, hint=error.hint) from error


class UnusedRunnables:
    """Copies of runnables that are registered no more; implements `Leftovers`.

    Args:
        cache: Folder of copies.
        usage: What the database knows.
        work: Folder of workloads; what those that have not ended name stays.
    """

    def __init__(self, cache: Path, usage: Usage, work: Path) -> None:
        self._cache, self._usage, self._work = cache, usage, work

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Folders of copies."""
        needed = self._needed()
        return [Leftover("runnable", path.name[:12], "the runnable is registered no more", size_of(path), age_of(path),
                         path.name) for path in entries(self._cache)
                if _HEX.fullmatch(path.name) and path.name not in needed and age_of(path) >= older_than]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless it was registered again."""
        if leftover.key in self._needed():
            return False
        forget(self._cache, f"sha256:{leftover.key}")
        return not (self._cache / leftover.key).exists()

    def _needed(self) -> set[str]:
        return {digest.partition(":")[2] for digest in self._usage.versions()} | busy_digests(self._work)


class UnusedContents:
    """Contents of artifacts that are gone, in every store that can collect them; implements `Leftovers`.

    Stores do not tell how long nobody has needed something, so it is written down when it is first seen. Besides, they
    spare what is younger than an hour, because its registration may be under way.

    Args:
        plugins: Stores.
        usage: What the database knows.
        work: Folder of workloads; what those that have not ended name stays.
        seen: File for when contents were first seen to be garbage.
    """

    def __init__(self, plugins: Plugins, usage: Usage, work: Path, seen: Path) -> None:
        self._plugins, self._usage, self._work, self._seen = plugins, usage, work, seen
        self._young: dict[str, list[str]] = {}

    def find(self, older_than: float) -> Sequence[Leftover]:
        """One entry for each store."""
        since = self._read_seen()
        now, still, found = time.time(), dict[str, float](), []
        for name, store in self._plugins.stores():
            report = self._collect(store, [], dry_run=True)
            if report is None or not report.removed:
                continue
            mine = {digest: min(since.get(f"{name} {digest}", now), now) for digest in report.removed}
            still |= {f"{name} {digest}": at for digest, at in mine.items()}
            self._young[name] = [digest for digest, at in mine.items() if now - at < older_than]
            old = [at for at in mine.values() if now - at >= older_than]
            if not old:
                continue
            report = self._collect(store, self._young[name], dry_run=True)
            found.append(Leftover("content", f"{name}: {len(old)} contents",
                                  "no project has these artifacts any more", report.bytes, now - max(old), name))
        self._seen.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._seen, json.dumps(still).encode())
        return found

    def remove(self, leftover: Leftover) -> bool:
        """Let the store collect; what is needed is asked anew."""
        store = dict(self._plugins.stores()).get(leftover.key)
        report = self._collect(store, self._young.get(leftover.key, []), dry_run=False) if store is not None else None
        return report is not None and bool(report.removed)

    def _collect(self, store: StoreFacade, young: Sequence[str], *, dry_run: bool) -> Any:
        """The store's report; None if it cannot collect."""
        try:
            description = store.describe()
            if "collect_garbage" not in description.capabilities:
                return None
            busy = [f"sha256:{value}" for value in busy_digests(self._work)]
            keep = sorted({*self._usage.versions(description.kinds), *busy, *young})
            return store.collect_garbage(keep, dry_run, timeout=600.0)
        except PluginError as error:
            raise Unavailable(error.message, hint=error.hint) from error

    def _read_seen(self) -> dict[str, float]:
        try:
            return {str(key): float(value) for key, value in json.loads(self._seen.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def busy_digests(work: Path) -> set[str]:
    """Every digest, 64 hex digits, that a workload which has not ended names anywhere."""
    found: set[str] = set()
    for path in entries(work):
        if not path.name.startswith(".gone-") and _ended_at(path) is None:
            try:
                found |= set(_HEX.findall((path / "workload.json").read_text(encoding="utf-8")))
            except OSError:
                continue
    return found


def _ended_at(path: Path) -> float | None:
    """When a workload ended; None if it has not, or nobody knows."""
    try:
        status = json.loads((path / "status.json").read_bytes())
        return float(status.get("ended_at") or 0.0) if status.get("state") in _FINAL else None
    except (OSError, ValueError, AttributeError):
        return None
