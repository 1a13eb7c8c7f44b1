"""The part of the composition root that is about looking after extensions: archives, checks, leftovers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from fuseml_core.adapters.components import HostedPlugins
from fuseml_core.adapters.extensions import UvEnvironments
from fuseml_core.adapters.extensions.airgap import LayoutExports, LayoutImports, Relocations
from fuseml_core.adapters.extensions.airgap.judging import Judge
from fuseml_core.adapters.extensions.airgap.origins import Origins
from fuseml_core.adapters.extensions.airgap.wheels import WheelCollector, WheelFolder
from fuseml_core.adapters.extensions.examinations import Patient, examinations
from fuseml_core.adapters.extensions.inspection import DiskInspection
from fuseml_core.adapters.extensions.leftovers import (
    Kept,
    OldGenerations,
    OldTransfers,
    UnusedBundles,
    UnusedEnvironments,
    UnusedLayers,
    UnusedWheels,
)
from fuseml_core.adapters.extensions.package_locks import RegistryPackageLocks
from fuseml_core.adapters.extensions.state_leftovers import AbandonedFolders
from fuseml_core.adapters.extensions.workload_leftovers import (
    EndedWorkloads,
    UnusedContents,
    UnusedRunnables,
    busy_digests,
)
from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.migration import pending
from fuseml_core.adapters.sql.usage import SqlUsage
from fuseml_core.domain.errors import FusemlError
from fuseml_core.service.extensions import Extensions
from fuseml_core.service.extensions.care import ExtensionCare
from fuseml_core.service.extensions.care_ports import Leftover, Leftovers, Target
from fuseml_core.service.extensions.collection import Collector, QuietCollector
from fuseml_core.service.extensions.difference import Differ
from fuseml_core.service.extensions.doctor import Doctor
from fuseml_core.service.extensions.exporting import Exporter
from fuseml_core.service.extensions.importing import Importer
from fuseml_core.service.extensions.options import Options
from fuseml_core.service.extensions.ports import (
    Bundles,
    ComponentHost,
    FoundBundle,
    InstalledExtensions,
    Progress,
    Wish,
)
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.service.extensions.verification import VerificationTools, Verifier
from fuseml_core.service.marketplaces import Marketplaces
from fuseml_core.settings import Settings
from fuseml_oci.bundles import vendoring
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.environments import IndexSettings
from fuseml_sdk.errors import PluginError

#: Kinds of leftovers that the doctor counts: what is expensive to count is left to `gc`.
_COUNTED = ("generation", "bundle", "environment", "layer", "transfer")


@dataclass(frozen=True)
class Parts:
    """What the rest of the composition root has made already.

    Attributes:
        settings: Of the server.
        database: Of the core.
        records: Rows of installed extensions.
        extensions: Their use cases.
        bundles: Registries.
        host: Their components in the plugin host.
        plugins: Stores and agents.
        marketplaces: Catalogs.
        located: Returns the reference of a version in a catalog, with digest; empty when none has it.
        connect: Returns a client for the registry of a reference, None: the embedded one.
        pinned: Whether a pipeline needs the files of a bundle digest.
        engine: Version of FuseML.
        lock: The one lock for changes of the extensions.
    """

    settings: Settings
    database: Engine
    records: InstalledExtensions
    extensions: Extensions
    bundles: Bundles
    host: ComponentHost
    plugins: HostedPlugins
    marketplaces: Marketplaces
    located: Callable[[str, str], str]
    connect: Callable[[Reference | None], RegistryClient]
    pinned: Callable[[str], bool]
    engine: str
    lock: SqlChangeLock


def relocations(settings: Settings) -> Relocations:
    """Where imported bundles came from."""
    return Relocations(settings.path("extensions", "relocations.json"))


def make_care(parts: Parts) -> ExtensionCare:
    """Put together everything that looks after extensions."""
    settings, generations = parts.settings, SqlGenerations(parts.database)
    store, moved = BundleStore(settings.path("extensions", "store")), relocations(settings)
    exports = LayoutExports(settings.path("extensions", "transfers"), settings.path("extensions", "content"),
                            parts.connect, Origins(lambda: parts.connect(None).registry, settings.path("keys"), moved),
                            lambda: WheelCollector(_wheels(settings)), _catalogs_of(parts))
    imports = LayoutImports(settings.path("extensions", "imports"), lambda: parts.connect(None),
                            Judge(settings.policy), moved, WheelFolder(settings.path("wheels")))
    sources = _sources(parts, store)

    def collector(keep: int | None) -> Collector:
        return Collector(sources(keep or settings.extension_generations), on_request=["state"])

    tools = VerificationTools(parts.records, generations, parts.lock, parts.bundles, UvEnvironments(settings),
                              parts.host, store, DiskInspection())
    counted = sources(settings.extension_generations)
    patient = Patient(settings, parts.records, generations, parts.host, store, lambda: parts.connect(None),
                      parts.marketplaces.list, lambda: _count(counted), lambda: pending(parts.database),
                      parts.marketplaces.update, lambda: [
                          line for record in parts.records.list()
                          for line in parts.bundles.advice(record.reference, record.name, record.version)])
    return ExtensionCare(
        differ=Differ(parts.records, generations, parts.bundles, RegistryPackageLocks(parts.connect)),
        verifier=Verifier(tools),
        exporter=Exporter(parts.records, generations, parts.bundles, exports, parts.engine), exports=exports,
        importer=Importer(imports, _install(parts.extensions), parts.lock), doctor=Doctor(examinations(patient)),
        collector=collector,
        quiet=QuietCollector(collector(None), settings.gc_seconds, settings.gc_age))


def _catalogs_of(parts: Parts) -> Callable[[FoundBundle], Mapping[str, Reference]]:
    """The catalogs in which a bundle can be found, if one of them names exactly this one."""
    def catalogs(found: FoundBundle) -> Mapping[str, Reference]:
        try:
            located = parts.located(found.name, found.version)
        except (FusemlError, PluginError):
            return {}
        if not located or parse(located).digest != found.digest:
            return {}
        return {entry["name"]: parse(entry["reference"]).with_digest(entry["digest"])
                for entry in parts.marketplaces.list() if entry["digest"]}

    return catalogs


def _sources(parts: Parts, store: BundleStore) -> Callable[[int], Mapping[str, Leftovers]]:
    """The kinds of leftovers, in the order in which they are removed: what needs others goes first."""
    settings, usage, work = parts.settings, SqlUsage(parts.database), parts.settings.path("work")
    generations, states = SqlGenerations(parts.database), settings.path("extensions", "state")

    def pinned(digest: str) -> bool:
        return parts.pinned(digest) or digest.partition(":")[2] in busy_digests(work)

    def sources(keep: int) -> Mapping[str, Leftovers]:
        kept = Kept(parts.records, generations, pinned, keep)
        return {
            "workload": EndedWorkloads(work, usage, lambda: parts.plugins.agent("process")),
            "generation": OldGenerations(kept, parts.lock),
            "bundle": UnusedBundles(kept, parts.lock, store, parts.host),
            "runnable": UnusedRunnables(settings.path("cache", "runnables"), usage, work),
            "environment": UnusedEnvironments(settings.path("envs"), kept, usage.versions),
            "content": UnusedContents(parts.plugins, usage, work, settings.path("extensions", "unneeded.json")),
            "layer": UnusedLayers(settings.path("extensions", "content"), parts.records, parts.lock),
            "wheel": UnusedWheels(settings.path("wheels"), store, lambda: _wheels_of_imports(parts)),
            "transfer": OldTransfers(parts.lock, settings.path("extensions", "transfers"),
                                     settings.path("extensions", "imports")),
            "scratch": AbandonedFolders(states, parts.records, parts.lock, hosts=True),
            "state": AbandonedFolders(states, parts.records, parts.lock, hosts=False),
        }

    return sources


def _wheels_of_imports(parts: Parts) -> Collection[str]:
    """Digests of wheels that came with bundles which are still in the embedded registry."""
    with parts.connect(None) as client:
        return {wheel for moved in relocations(parts.settings).all()
                if moved.wheels and client.has_manifest(moved.local, moved.digest) for wheel in moved.wheels}


def _count(sources: Mapping[str, Leftovers]) -> Sequence[Leftover]:
    return [leftover for kind in _COUNTED for leftover in sources[kind].find(86_400.0)]


def _install(extensions: Extensions) -> Callable[[Sequence[str], bool, Progress], dict[str, Any]]:
    def install(references: Sequence[str], allow_unsigned: bool, progress: Progress) -> dict[str, Any]:
        options = Options(wish=Wish(offline=True), allow_unsigned=allow_unsigned)
        return extensions.install(references, options, progress)

    return install


def _wheels(settings: Settings) -> Callable[[Path, Target, Path], Sequence[Path]]:
    index = IndexSettings(index_url=settings.index_url, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
                          offline=settings.offline, find_links=str(settings.path("wheels")))
    return lambda lock, target, folder: vendoring.collect(lock, target.python, folder, index, platform=target.platform)
