"""Whether what is installed is still what was installed: files, environments, signatures, components."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fuseml_core.domain.errors import FusemlError, NotFound
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.care_ports import Finding, Inspection, Integrity
from fuseml_core.service.extensions.ports import (
    Bundles,
    ChangeLock,
    ComponentHost,
    Environments,
    FoundBundle,
    Generations,
    InstalledExtensions,
    Progress,
    Wish,
)
from fuseml_core.service.extensions.store import BundleStore

_PATIENCE = 600.0
_MOST_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class VerificationTools:
    """What verification works with; see the ports."""

    records: InstalledExtensions
    generations: Generations
    lock: ChangeLock
    bundles: Bundles
    environments: Environments
    host: ComponentHost
    store: BundleStore
    inspection: Inspection


class Verifier:
    """The use case *verify*.

    Args:
        tools: What it works with.
    """

    def __init__(self, tools: VerificationTools) -> None:
        self._tools = tools

    def verify(self, names: Sequence[str], *, repair: bool, offline: bool, progress: Progress) -> dict[str, Any]:
        """Verify extensions, all of them when none is named.

        Args:
            names: Of installed extensions.
            repair: Fetch, unpack and build again what is wrong.
            offline: Ask no other registry than this server's own for signatures and bundles.
            progress: Told what is being done.

        Returns:
            `ok`, and `extensions`: `extension`, `version`, `files`, `environment_files`, `findings`, `repaired`.

        Raises:
            NotFound: One is not installed.
        """
        reports = []
        for record in self._chosen(names):
            progress(f"verifying {record.name} {record.version}")
            found = self._examine(record, offline)
            repaired: list[str] = []
            if repair and any(finding.repairable for finding in found.findings):
                repaired = self._repair(record, found.findings, offline, progress)
                found = self._examine(record, offline)
            reports.append({**asdict(found), "findings": [asdict(f) for f in found.findings[:_MOST_FINDINGS]],
                            "repaired": repaired})
        return {"ok": not any(report["findings"] for report in reports), "extensions": reports}

    def _chosen(self, names: Sequence[str]) -> Sequence[InstalledExtension]:
        active = {record.name: record for record in self._tools.records.list()}
        for name in names:
            if name not in active:
                raise NotFound(f"the extension {name!r} is not installed", hint="List them with: fuseml extension list")
        return [active[name] for name in dict.fromkeys(names)] if names else list(active.values())

    def _examine(self, record: InstalledExtension, offline: bool) -> Integrity:
        files, wrong = self._tools.inspection.files(record)
        inside, broken = self._tools.inspection.environment(record) if record.environment else (0, ())
        findings = (*wrong, *broken, *self._signature(record, offline), *self._components(record))
        return Integrity(record.name, record.version, files, inside, findings)

    def _signature(self, record: InstalledExtension, offline: bool) -> Iterator[Finding]:
        """Ask today's policy; that a registry cannot be reached says nothing about a signature."""
        found = FoundBundle(record.reference, record.digest, record.descriptor, record.config)
        try:
            decision = self._tools.bundles.decide(found, Wish(offline=offline))
        except FusemlError as error:
            yield Finding(record.name, "signature", "unknown", record.reference,
                          f"its signatures could not be read: {error.message}")
            return
        member = self._tools.generations.current().member(record.name)
        accepted = member is not None and member.digest == record.digest and member.trust.overridden
        if not decision.allowed and not accepted:
            yield Finding(record.name, "signature", "refused", record.reference,
                          f"today's policy would not install it: {decision.reason}")

    def _components(self, record: InstalledExtension) -> Iterator[Finding]:
        try:
            self._tools.host.check(record)
        except FusemlError as error:
            yield Finding(record.name, "components", "unhealthy", record.name, error.message)
            return
        for component in self._tools.host.state(record):
            if component["state"] == "failed":
                yield Finding(record.name, "components", "crashed", f"{component['family']} {component['name']}",
                              str(component.get("last_crash") or component["state"]))

    def _repair(self, record: InstalledExtension, findings: Sequence[Finding], offline: bool,
                progress: Progress) -> list[str]:
        """Put the bundle's folder and its environment in place again; components meet them at their next start."""
        parts = {finding.part for finding in findings if finding.repairable}
        steps: list[tuple[str, Callable[[], None]]] = []
        if "files" in parts:
            steps.append(("files", lambda: self._unpack(record, progress)))
        if "environment" in parts:
            steps.append(("environment", lambda: self._rebuild(record, offline, progress)))
        done = []
        with self._tools.lock.alone(f"repair {record.name}", _PATIENCE, progress):
            self._tools.host.unload(record)
            try:
                for part, step in steps:
                    progress(f"repairing the {part} of {record.name}")
                    step()
                    done.append(part)
            finally:
                self._tools.host.load(record)
        return done

    def _unpack(self, record: InstalledExtension, progress: Progress) -> None:
        found = FoundBundle(record.reference, record.digest, record.descriptor, record.config)
        self._tools.store.put(record.digest, lambda folder: self._tools.bundles.fetch(found, folder, progress))

    def _rebuild(self, record: InstalledExtension, offline: bool, progress: Progress) -> None:
        if record.environment:
            self._tools.environments.discard(record.environment)
        self._tools.environments.build(self._tools.store.path(record.digest), record.manifest, progress,
                                       offline=offline)
