"""The composition root: the only place that knows which adapter implements which port."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Engine

from fuseml_core import __version__
from fuseml_core.adapters.components import HostedPlugins
from fuseml_core.adapters.contracts import speakers
from fuseml_core.adapters.development import HostedDevelopment
from fuseml_core.adapters.extensions import HostedComponents, RegistryBundles, UvEnvironments
from fuseml_core.adapters.extensions.airgap.judging import RelocatingTrust
from fuseml_core.adapters.extensions.marketplaces import Marketplaces as CatalogCopies
from fuseml_core.adapters.extensions.offers import EmbeddedRows, Offers
from fuseml_core.adapters.extensions.subscriptions import Subscriptions
from fuseml_core.adapters.extensions.trust import PolicyTrust, RegistrySigner, establish
from fuseml_core.adapters.gateway import DataProcess
from fuseml_core.adapters.inspection import HostInspection
from fuseml_core.adapters.routes import Routes
from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.extensions import SqlDisabled, SqlExtensions, SqlExtensionSettings
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.ledger import SqlLedger
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.bootstrap_care import Parts, make_care, relocations
from fuseml_core.engine.asking import Asking
from fuseml_core.engine.completion import Completion
from fuseml_core.engine.progress import Progress
from fuseml_core.engine.reconciler import Reconciler
from fuseml_core.engine.serving import Serving
from fuseml_core.engine.watcher import StoreWatcher
from fuseml_core.host import PluginHost, discover, first_party
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.groups import ControlGroups
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.limits import Limits
from fuseml_core.host.own_users import OwnUsers
from fuseml_core.launcher.state import read_state
from fuseml_core.service.artifacts import Artifacts
from fuseml_core.service.codesets import Codesets
from fuseml_core.service.contracts import Contracts
from fuseml_core.service.development import Development
from fuseml_core.service.extensions import ExtensionCatalog, Extensions, ExtensionSettings
from fuseml_core.service.extensions.care import ExtensionCare
from fuseml_core.service.extensions.limits import LimitPolicy
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.service.extensions.runnables import PluginRunnables
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.service.extensions.trust import Trust
from fuseml_core.service.manual_runs import ManualRuns
from fuseml_core.service.marketplaces import Marketplaces
from fuseml_core.service.pins import pinned_bundles, uses, work_of
from fuseml_core.service.pipeline_updates import PipelineUpdates
from fuseml_core.service.pipelines import Pipelines
from fuseml_core.service.plugins import Plugins
from fuseml_core.service.projects import Projects
from fuseml_core.service.runs import Runs
from fuseml_core.service.services import Services
from fuseml_core.service.use_cases import UseCases
from fuseml_core.settings import Settings
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference
from fuseml_sdk.environments import IndexSettings

#: Plugins that the server hosts in its own process.
BUILT_IN = ("files", "git", "oci", "process")


def bootstrap(settings: Settings) -> UseCases:
    """Put the application of the control process together; nothing starts before `UseCases.start`.

    Args:
        settings: Where everything lies and how much there may be.
    """
    _log_by_standard_library()
    database = open_database(settings.database_url)
    ledger, records = SqlLedger(database), SqlExtensions(database)
    host = _plugin_host(settings)
    configured = ExtensionSettings(records, SqlExtensionSettings(database), _limit_policy(settings))
    resting, routes = Resting(SqlDisabled(database), safe_mode=settings.no_extensions), Routes()
    plugins = HostedPlugins(host, configured.variables, routes, records.list, resting.of)
    gateway = DataProcess(settings)
    asking = Asking()
    completion = Completion(ledger, plugins, asking)
    serving = Serving(ledger, plugins, gateway, completion, asking, url=service_urls(settings),
                      drain=settings.drain_seconds)
    progress = Progress(ledger, plugins, asking, serving.prepare)
    reconciler = Reconciler(ledger, plugins, asking, progress, completion, serving)
    services = Services(ledger, plugins, service_urls(settings))
    services.changed = lambda: _after_change(serving, reconciler)
    projects = Projects(ledger, plugins, services.stop_of_project)
    codesets = Codesets(ledger, plugins, projects, reconciler.wake, clone_urls(settings))
    catalogs = _catalogs(settings)
    bundles, lock = _bundles(settings, records, catalogs), SqlChangeLock(database)
    components = HostedComponents(host, settings.path("extensions", "state"), configured.values, routes, resting.of,
                                  BundleStore(settings.path("extensions", "store")).path, configured.limits.of)
    extensions = _extensions(settings, SqlGenerations(database), ledger, records=records, lock=lock, bundles=bundles,
                             settings=configured, host=components, resting=resting,
                             followers={"redetect": codesets.redetect})
    catalog, marketplaces = ExtensionCatalog(records, resting.of), _marketplaces(settings, catalogs, records)
    pipelines = Pipelines(ledger, catalog, projects, reconciler.wake, services.stop_of_pipeline)
    watcher = StoreWatcher(ledger, plugins, codesets.observe)
    care = make_care(Parts(
        settings, database, records, extensions, bundles, components, plugins, marketplaces,
        catalogs.locate, lambda reference: _client(settings, reference),
        lambda digest: digest in pinned_bundles(ledger), __version__, lock))
    started_at = time.time()

    life = _Life(settings, database, host, extensions, reconciler, watcher, marketplaces, care,
                 codesets)

    return UseCases(
        projects=projects, codesets=codesets, pipelines=pipelines,
        artifacts=Artifacts(ledger, PluginRunnables(records, resting)),
        pipeline_updates=PipelineUpdates(ledger, catalog, pipelines),
        runs=Runs(ledger, plugins, reconciler.wake),
        manual_runs=ManualRuns(ledger, pipelines, catalog, reconciler.wake), services=services,
        extensions=extensions, care=care, marketplaces=marketplaces,
        trust=_trust_use_case(settings, bundles), plugins=Plugins(HostInspection(
            host, routes, records.list, resting.of, settings.path("logs", "extensions"), configured.values)),
        development=Development(HostedDevelopment(host, settings.path("extensions", "development"))),
        contracts=Contracts(lambda: speakers(host)),
        describe=lambda: describe(settings, started_at), start=life.start, stop=life.stop, activity=reconciler.activity,
        stop_workloads=lambda jobs: reconciler.stop_workloads(cancel_jobs=jobs),
        alive=lambda: time.monotonic() - reconciler.heartbeat < 60.0, started_at=started_at)


@dataclass(frozen=True)
class _Life:
    """Starts and stops what works by itself, in order."""

    settings: Settings
    database: Engine
    host: PluginHost
    extensions: Extensions
    reconciler: Reconciler
    watcher: StoreWatcher
    marketplaces: Marketplaces
    care: ExtensionCare
    codesets: Codesets

    def start(self) -> None:
        migrate(self.database)
        establish(self.settings.home)
        self.host.isolation.clean()
        for component in built_in(self.settings):
            self.host.add(component)
        self.extensions.load_installed()
        self.reconciler.start()
        self.watcher.start()
        self.marketplaces.start()
        self.care.quiet.start()
        threading.Thread(target=self._resume, name="fuseml-resume", daemon=True).start()

    def _resume(self) -> None:
        self.extensions.resume()
        self.codesets.redetect(unseen=True)

    def stop(self) -> None:
        self.extensions.stop()
        self.marketplaces.stop()
        self.care.quiet.stop()
        self.watcher.stop()
        self.reconciler.stop()
        # What is in flight now are calls that wait for events; they may be cut.
        self.host.shutdown(drain=0.5)
        self.database.dispose()


def _plugin_host(settings: Settings) -> PluginHost:
    return PluginHost(runtime_dir=settings.runtime_dir, log_dir=settings.path("logs", "extensions"),
                      idle_seconds=settings.plugin_idle or None, isolation=_isolation(settings))


def _isolation(settings: Settings) -> Isolation:
    users = OwnUsers(settings.home, *settings.plugin_uids) if settings.plugin_uids else None
    groups = ControlGroups(settings.runtime_dir.name, settings.path("run", "control-groups"))
    return Isolation(protected=(settings.home, settings.runtime_dir), limits=Limits(**_limit_policy(settings).default),
                     users=users, groups=groups, states=settings.path("extensions", "state"))


def _limit_policy(settings: Settings) -> LimitPolicy:
    """Limits by their names in manifests, and the variables behind those that nothing exceeds."""
    names = {"memory": "memory", "open_files": "files", "processes": "processes", "file_size": "file_size"}
    return LimitPolicy({limit: getattr(settings, f"plugin_{name}") for limit, name in names.items()},
                       {limit: getattr(settings, f"plugin_max_{name}") for limit, name in names.items()},
                       {limit: f"FUSEML_PLUGIN_MAX_{name.upper()}" for limit, name in names.items()})


def _log_by_standard_library() -> None:
    structlog.configure(processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
                        logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)


def _extensions(server: Settings, generations: SqlGenerations, ledger: SqlLedger, **parts: Any) -> Extensions:
    return Extensions(
        generations=generations, environments=UvEnvironments(server), store=server.path("extensions", "store"),
        engine=__version__, users=_users(ledger), work=work_of(ledger),
        pinned=lambda digest: digest in pinned_bundles(ledger), keep=server.extension_generations,
        grace=server.extension_grace, **parts)


def _marketplaces(settings: Settings, catalogs: CatalogCopies, records: SqlExtensions) -> Marketplaces:
    return Marketplaces(Offers(catalogs, EmbeddedRows(lambda: _client(settings))), records, __version__,
                        0.0 if settings.offline else settings.marketplace_seconds)


def _catalogs(settings: Settings) -> CatalogCopies:
    return CatalogCopies(Subscriptions(settings.path("marketplaces")), lambda reference: _client(settings, reference),
                         __version__)


def _client(settings: Settings, reference: Reference | None = None) -> RegistryClient:
    """A client for the registry of a reference, by default the embedded one."""
    own = urlsplit(_registry(settings))
    if reference is not None and reference.registry != own.netloc:
        return RegistryClient(reference.registry, proxy=settings.proxy, ca_bundle=settings.ca_bundle)
    return RegistryClient(own.netloc, insecure=own.scheme == "http", proxy=settings.proxy,
                          ca_bundle=settings.ca_bundle)


def _bundles(settings: Settings, records: SqlExtensions, catalogs: CatalogCopies) -> RegistryBundles:
    return RegistryBundles(lambda: _registry(settings), settings.path("extensions", "content"), records,
                           trust=_trust(settings), marketplaces=catalogs, relocations=relocations(settings),
                           proxy=settings.proxy, ca_bundle=settings.ca_bundle)


def _trust(settings: Settings) -> PolicyTrust:
    return RelocatingTrust(settings.policy, lambda: base_url(settings), settings.path("keys"), relocations(settings))


def _trust_use_case(settings: Settings, bundles: RegistryBundles) -> Trust:
    signer = RegistrySigner(lambda: base_url(settings), settings.path("keys"))
    return Trust(bundles, signer, _trust(settings))


def _after_change(serving: Serving, reconciler: Reconciler) -> None:
    serving.publish()
    reconciler.wake()


def built_in(settings: Settings) -> list[Any]:
    """Components of the built-in plugins, configured."""
    index = IndexSettings(index_url=settings.index_url, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
                          offline=settings.offline, find_links=str(settings.path("wheels")))
    configs: dict[str, dict[str, Any]] = {
        # Where the process agent puts outputs, and where copies of those of other agents appear.
        "files": {"root": str(settings.path("artifacts")), "take_over": [
            str(settings.path("work")), str(HostFolders(settings.path("state", "fuseml-files")).incoming)]},
        "git": {"root": str(settings.path("git")), "base_url": base_url(settings)},
        "oci": {"registry": _registry(settings), "cache": str(settings.path("cache", "runnables"))},
        "process": {
            "root": str(settings.path("work")), "environments": str(settings.path("envs")),
            "cache": str(settings.path("cache")), "sockets": str(settings.runtime_dir), "index": asdict(index),
            "pythons": list(settings.pythons), "strict_python": settings.strict_python,
            "safe_mode": settings.no_extensions,
        "limits": {"jobs": settings.max_jobs, "services": settings.max_services, "memory": settings.max_memory},
            "job_timeout": settings.job_timeout},
    }
    return [component for found in discover(BUILT_IN)
            for component in first_party(found, state_root=settings.path("state"), config=configs[found.name])]


def base_url(settings: Settings) -> str:
    """URL of the data process."""
    return f"http://127.0.0.1:{settings.port}"


def _registry(settings: Settings) -> str:
    return settings.registry_url or base_url(settings)


def service_urls(settings: Settings) -> Callable[[str, str, str], str]:
    """How the URL of a service is made: below the domain if there is one, else as a path."""
    def url(project: str, name: str, predict_path: str) -> str:
        if settings.domain:
            port = "" if ":" in settings.domain else f":{settings.port}"
            return f"http://{name}.{project}.{settings.domain}{port}{predict_path}"
        return f"{base_url(settings)}/serve/{project}/{name}{predict_path}"

    return url


def clone_urls(settings: Settings) -> Callable[[str, str], str]:
    """How the clone URL of a codeset is made."""
    return lambda project, name: f"{base_url(settings)}/git/{project}/{name}.git"


def _users(ledger: SqlLedger) -> Callable[[str], list[str]]:
    def users(extension: str) -> list[str]:
        with ledger.read() as tx:
            pipelines = [f"the pipeline {p.project}/{p.name}" for p in tx.pipelines.all() if uses(p, extension)]
            keeping = [f"the project {p.name}, for its {kind}s," for p in tx.projects.all()
                       for kind, store in p.stores.items() if store.startswith(f"{extension}/")]
            kept = [f"the project {project}, with {number} {kind}{'' if number == 1 else 's'} kept there,"
                    for project, kind, number in tx.artifacts.kept_in(f"{extension}/")]
        return pipelines + keeping + kept

    return users


def describe(settings: Settings, started_at: float) -> dict[str, Any]:
    """Facts about the running server; the database URL is shown without its password."""
    state = read_state(settings.state_file)
    parsed = urlsplit(settings.database_url)
    database = settings.database_url if not parsed.password else settings.database_url.replace(parsed.password, "***")
    return {
        "version": __version__, "home": str(settings.home), "port": settings.port, "base_url": base_url(settings),
        "domain": settings.domain, "registry": _registry(settings), "database": database, "started_at": started_at,
        "pids": state.pids if state else {"control": os.getpid()}, "logs": str(Path(settings.home) / "logs"),
        "limits": {"jobs": settings.max_jobs, "services": settings.max_services, "memory": settings.max_memory}}
