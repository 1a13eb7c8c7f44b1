"""Codesets: repositories, their versions, and what builders recognise them to be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog

from fuseml_core.domain.addresses import Address
from fuseml_core.domain.errors import FusemlError, Invalid, NotFound, Refused
from fuseml_core.domain.names import check_name
from fuseml_core.domain.records import NewVersion, Version
from fuseml_core.engine.registration import Registered, new_change, register, retype
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_core.service.projects import Projects
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import CODESET, ArtifactRef, RegisterRequest, StoreEvent

log = structlog.get_logger(__name__)

#: Bytes of the largest file that detection reads.
MAX_READ = 256 * 1024
#: What is kept with a version under these names tells how it was recognised last.
FAILURES = "detection_failures"
_TOLD = frozenset({"detection", "builder", FAILURES})
#: Characters of the longest name of a branch.
MAX_BRANCH = 255


class Codesets:
    """Use cases around codesets."""

    def __init__(
        self,
        ledger: Ledger,
        components: Components,
        projects: Projects,
        wake: Callable[[], None],
        clone_url: Callable[[str, str], str],
    ) -> None:
        self._ledger = ledger
        self._components = components
        self._projects = projects
        self._wake = wake
        self._clone_url = clone_url
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def create(self, project: str, name: str) -> dict[str, Any]:
        """Make the repository of a codeset if it is not there, and the project `default` if that is meant."""
        check_name(name, "codeset")
        self._projects.ensure(project)
        self._components.store(CODESET).register(RegisterRequest(kind=CODESET, project=project, name=name))
        return {"project": project, "name": name, "clone_url": self._clone_url(project, name)}

    def all(self, project: str) -> list[dict[str, Any]]:
        """Codesets of a project with their current version."""
        self._projects.get(project)
        with self._ledger.read() as tx:
            return [
                self._view(
                    project,
                    row["name"],
                    row["default_branch"],
                    tx.artifacts.current(CODESET, project, row["name"]),
                )
                for row in tx.artifacts.names(CODESET, project)
            ]

    def get(self, project: str, name: str) -> dict[str, Any]:
        """One codeset.

        Raises:
            NotFound: There is none of this name.
        """
        for codeset in self.all(project):
            if codeset["name"] == name:
                return codeset
        raise NotFound(
            f"there is no codeset {name!r} in project {project!r}",
            hint=f"Push one: fuseml codeset push <folder> --name {name}.",
        )

    def _view(self, project: str, name: str, branch: str, current: Version | None) -> dict[str, Any]:
        return {
            "project": project,
            "name": name,
            "default_branch": branch,
            "clone_url": self._clone_url(project, name),
            "address": current.address if current else "",
            "short": current.short if current else "",
            "type": current.type if current else None,
            "detection": current.metadata.get("detection", "") if current else "",
            "created_at": current.created_at if current else None,
        }

    def delete(self, project: str, name: str) -> None:
        """Delete a codeset: its repository goes, its versions stay as records of what was built from them.

        Raises:
            NotFound: There is none of this name.
            Refused: A run that takes it is active.
        """
        self.get(project, name)
        with self._ledger.read() as tx:
            taken = {v.id for v in tx.artifacts.page(kind=CODESET, project=project, name=name, limit=1000)}
            active = [r.name for r in tx.runs.active() if taken & set(tx.runs.inputs(r.id).values())]
        if active:
            raise Refused(f"runs of the code {name!r} are active: {', '.join(active[:5])}",
                          hint="Wait, or cancel them: fuseml run cancel <run>.")
        self._components.store(CODESET).delete(ArtifactRef(kind=CODESET, project=project, name=name, digest=""))
        with self._ledger.begin() as tx:
            tx.artifacts.mark_deleted(CODESET, project, name)

    def push(self, project: str, name: str, commit: str, branch: str) -> Registered:
        """Register a commit that has been pushed; doing it twice is doing it once.

        Raises:
            NotFound: The commit is not in the repository.
            Invalid: The commit is not a full object id.
        """
        if len(commit) not in (40, 64) or set(commit) - set("0123456789abcdef"):
            raise Invalid(f"{commit!r} is not a full commit id", hint="Give 40 hexadecimal digits.")
        check_name(name, "codeset")
        if not branch or len(branch) > MAX_BRANCH or branch.startswith("-") or not branch.isprintable():
            raise Invalid(f"{branch!r} cannot name a branch", hint="Give the name of the branch that was pushed.")
        self._projects.get(project)
        digest = f"git:{commit}"
        with self._one_at_a_time(f"{project}/{name}"):
            descriptor = self._components.store(CODESET).register(
                RegisterRequest(kind=CODESET, project=project, name=name, digest=digest, aliases=[branch])
            )
            with self._ledger.read() as tx:
                known = tx.artifacts.find(Address(CODESET, project, name, digest=digest))
            # Where a builder could not look, it may by now: whoever pushes again asks for that.
            again = bool(known and known[0].metadata.get(FAILURES))
            type_, detection = (
                (known[0].type, dict(known[0].metadata)) if known and not again else self.detect(project, name, digest)
            )
            new = NewVersion(
                kind=CODESET,
                project=project,
                name=name,
                digest=digest,
                type=type_,
                size=descriptor.size,
                location=descriptor.location,
                labels=dict(descriptor.labels),
                metadata={**descriptor.metadata, **detection},
            )
            with self._ledger.begin() as tx:
                if tx.projects.get(project) is None:
                    raise NotFound(f"the project {project!r} was deleted meanwhile")
                registered = register(tx, new, change=new_change(), branch=branch)
                if again:
                    registered = _retyped(tx, registered, type_, detection, branch)
        self._wake()
        return registered

    def detect(self, project: str, name: str, digest: str) -> tuple[str | None, dict[str, Any]]:
        """Ask every builder what a codeset version is.

        A builder that fails is passed over: the code is of the type that another one recognises, or of none.

        Returns:
            The type, and what is kept with the version: `detection`, the reason in either case; `builder`, which
            recognised it; `detection_failures`, the `builder`, `error` and `hint` of each that could not look at it.
        """
        ref = ArtifactRef(kind=CODESET, project=project, name=name, digest=digest)
        builders, resting = self._components.builders(), self._components.resting_builders()
        if not builders and not resting:
            return None, {"detection": "no installed extension has a builder"}
        reasons: list[str] = []
        failures: list[dict[str, str]] = []
        for title, builder in builders:
            try:
                patterns = builder.describe().reads
                listing = self._components.store(CODESET).files(ref, list(patterns), MAX_READ)
                detection = builder.detect(listing)
            except (FusemlError, PluginError) as error:
                log.warning(
                    "builder could not look at a codeset",
                    builder=title,
                    codeset=f"{project}/{name}",
                    error=str(error),
                )
                reason = error.message.splitlines()[0] if error.message else type(error).__name__
                hint = " ".join([*error.hint.split(), "See:", "fuseml", "plugin", "logs", title])
                failures.append({"builder": title, "error": reason, "hint": hint})
                continue
            if detection.matches:
                found = {**detection.metadata, "detection": detection.why, "builder": title}
                return detection.type, found | ({FAILURES: failures} if failures else {})
            reasons.append(f"{title}: {detection.why}")
        failures += [{"builder": title, "error": rest.reason, "hint": rest.hint} for title, rest in resting]
        reasons += [f"{failure['builder']} could not look at it: {failure['error']}" for failure in failures]
        return None, {"detection": "; ".join(reasons)} | ({FAILURES: failures} if failures else {})

    def redetect(self, *, unseen: bool = False) -> None:
        """Look again at the current version of every codeset, because a builder was installed or upgraded.

        Args:
            unseen: Only at those that a builder could not look at, because it may by now.
        """
        with self._ledger.read() as tx:
            current = [
                (tx.artifacts.current(CODESET, r["project"], r["name"]), r["default_branch"])
                for r in tx.artifacts.names(CODESET, None)
            ]
        for version, branch in current:
            if version is None or (unseen and not version.metadata.get(FAILURES)):
                continue
            type_, metadata = self.detect(version.project, version.name, version.digest)
            with self._ledger.begin() as tx:
                retype(tx, version, type_, _kept(version) | metadata, branch)
        self._wake()

    def observe(self, event: StoreEvent) -> None:
        """Take in what a codeset store noticed, such as a plain `git push`."""
        if event.kind != CODESET:
            return
        if event.type == "deleted":
            with self._ledger.begin() as tx:
                for branch in event.aliases:
                    tx.artifacts.drop_alias(CODESET, event.project, event.name, branch)
            return
        with self._ledger.read() as tx:
            if tx.projects.get(event.project) is None:
                return
        for branch in event.aliases or ["main"]:
            try:
                self.push(event.project, event.name, event.digest.removeprefix("git:"), branch)
            except (Invalid, Refused) as error:
                log.warning(
                    "pushed commit was not registered", codeset=f"{event.project}/{event.name}", error=str(error)
                )

    @contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            yield


def _kept(version: Version) -> dict[str, Any]:
    """What is kept with a version, without what the last detection said."""
    return {key: value for key, value in version.metadata.items() if key not in _TOLD}


def _retyped(
    tx: Transaction, registered: Registered, type_: str | None, detection: dict[str, Any], branch: str
) -> Registered:
    """A version that was pushed again, recognised anew; decisions are those that follow from its new type, if any."""
    version, change = registered.version, new_change()
    decisions = retype(tx, version, type_, _kept(version) | detection, branch, change)
    now = tx.artifacts.get(version.id) or version
    if now.type == version.type:
        return replace(registered, version=now)
    return replace(registered, version=now, decisions=tuple(decisions), retyped=True,
                   change=change if decisions else registered.change)
