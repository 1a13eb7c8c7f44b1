"""The engine over real databases, with plugins that live in the test: a store, an agent and a gateway in memory."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.ledger import SqlLedger
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.domain.errors import Unavailable
from fuseml_core.engine import asking
from fuseml_core.engine.asking import Asking
from fuseml_core.engine.completion import Completion
from fuseml_core.engine.progress import Progress
from fuseml_core.engine.reconciler import Reconciler
from fuseml_core.engine.serving import Serving
from fuseml_core.service.codesets import Codesets
from fuseml_core.service.manual_runs import ManualRuns
from fuseml_core.service.pipelines import Pipelines
from fuseml_core.service.projects import Projects
from fuseml_core.service.runs import Runs
from fuseml_core.service.services import Services
from fuseml_sdk.errors import NotFound, NotReady
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactDescriptor,
    BuilderDescription,
    Detection,
    FileEntry,
    FileListing,
    Location,
    LogChunk,
    StoreDescription,
    StoreEvents,
    WorkloadEvents,
    WorkloadStatus,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """An empty migrated database of either kind."""
    if request.param == "sqlite":
        engine = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    else:
        url = request.getfixturevalue("postgresql_url")
        name = f"t{time.time_ns()}"
        admin = open_database(url).execution_options(isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        admin.dispose()
        engine = open_database(url.replace("/postgres", f"/{name}"))
    migrate(engine)
    yield engine
    engine.dispose()


class MemoryStore:
    """Keeps what it is given; codesets are lists of files by commit."""

    def __init__(self) -> None:
        self.trees: dict[str, dict[str, str]] = {}
        self.registered: list[Any] = []

    def describe(self):
        return StoreDescription(name="memory", kinds=["codeset", "model", "dataset", "runnable"], schemes=["file"],
                                capabilities=["register", "files"])

    def register(self, request):
        self.registered.append(request)
        if request.kind == "codeset" and request.digest and request.digest not in self.trees:
            raise NotFound(f"{request.digest} is not in the repository")
        source = request.source.uri.rpartition("/")[2] if request.source else "0"
        digest = request.digest or "sha256:" + source.ljust(64, "0")
        return ArtifactDescriptor(kind=request.kind, project=request.project, name=request.name, digest=digest,
                                  type=request.type, metadata=request.metadata, location=f"memory:{digest}")

    def delete(self, ref):
        return True

    def locate(self, ref, accepts):
        return Location(uri=f"file:///{ref.digest.replace(':', '/')}")

    def files(self, ref, read, max_bytes):
        tree = self.trees.get(ref.digest, {})
        return FileListing(files=[FileEntry(path=p, size=len(c), digest=f"git:{c}") for p, c in tree.items()])

    def events(self, cursor, wait):
        return StoreEvents(events=[], cursor=cursor)


class ScriptedAgent:
    """Runs nothing: a test says how each workload ends."""

    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.states: dict[str, WorkloadStatus] = {}
        self.room = 1000
        self.changed: list[str] = []
        self.outcome = lambda workload: {"state": "succeeded"}

    def describe(self):
        return AgentDescription(name="scripted", kinds=["job", "service"], environments=["python"], schemes=["file"])

    def submit(self, workload):
        if workload.name not in self.states:
            running = [s for s in self.states.values() if s.state == "running"]
            if len(running) >= self.room:
                raise NotReady(f"{self.room} jobs run")
            self.submitted.append(workload)
            self._set(workload.name, WorkloadStatus(**{"name": workload.name, **self.outcome(workload)}))
        return self.states[workload.name]

    def status(self, names):
        return [self.states.get(n, WorkloadStatus(name=n, state="unknown")) for n in names]

    def events(self, cursor, wait):
        seen, until = int(cursor or 0), time.monotonic() + 0.2
        while len(self.changed) == seen and time.monotonic() < until:
            time.sleep(0.02)
        names = list(dict.fromkeys(self.changed[seen:]))
        return WorkloadEvents(statuses=[self.states[n] for n in names], cursor=str(seen + len(self.changed[seen:])))

    def _set(self, name, status):
        self.states[name] = status
        self.changed.append(name)

    def logs(self, name, cursor, limit):
        return LogChunk(text="" if cursor else f"log of {name}\n", cursor="1", complete=True)

    def cancel(self, name, grace):
        if self.states[name].state not in ("succeeded", "failed", "cancelled"):
            self._set(name, self.states[name].model_copy(update={"state": "cancelled"}))
        return self.states[name]

    def collect(self, name):
        return True

    def report(self, name, **values):
        """Let a workload get on."""
        self._set(name, self.states[name].model_copy(update=values))


class MLflowBuilder:
    """Recognises a file named MLproject."""

    def describe(self):
        return BuilderDescription(name="mlflow", types=["mlflow-project"], reads=[])

    def detect(self, listing: FileListing):
        found = any(f.path == "MLproject" for f in listing.files)
        return Detection(matches=found, type="mlflow-project" if found else None,
                         why="has MLproject" if found else "no MLproject file in the root")


class MemoryComponents:
    """Implements the port `Components`."""

    def __init__(self) -> None:
        self.memory, self.scripted = MemoryStore(), ScriptedAgent()
        self.settings: dict[str, dict[str, str]] = {}
        self.known_builders: list[Any] = [("mlflow/mlflow", MLflowBuilder())]
        self.others: dict[str, MemoryStore] = {}
        self.resting: list[Any] = []

    def store(self, kind, name=""):
        if name:
            if name not in self.others:
                raise Unavailable(f"there is no artifact store {name!r}")
            return self.others[name]
        if kind not in self.memory.describe().kinds:
            raise Unavailable(f"no store keeps {kind}")
        return self.memory

    def stores(self):
        return [("memory", self.memory)]

    def agent(self, name):
        return self.scripted

    def agents(self):
        return [("scripted", self.scripted)]

    def builders(self):
        return self.known_builders

    def variables(self, extension):
        return self.settings.get(extension, {})

    def resting_agents(self):
        return []

    def resting_builders(self):
        return self.resting

    def watched(self):
        return self.stores()


class MemoryGateway:
    """Implements the port `Gateway`."""

    def __init__(self) -> None:
        self.tables: list[dict[str, Any]] = []
        self.flying: dict[str, int] = {}

    def publish(self, services):
        self.tables.append(services)

    def in_flight(self, workload):
        return self.flying.get(workload, 0)


class MemoryCatalog:
    """Implements the port `Catalog` over dictionaries."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.runnables: dict[str, dict[str, Any]] = {}

    def templates(self):
        return list(self.entries.values())

    def template(self, name):
        from fuseml_core.domain.errors import NotFound as Missing

        short = name.removeprefix("ext/")
        if short not in self.entries:
            raise Missing(f"there is no template {name!r}")
        return self.entries[short]

    def version(self, digest):
        return {entry["extension_digest"]: entry["version"] for entry in self.entries.values()}.get(digest, "")

    def runnable(self, name, extension):
        return self.runnables[name.rpartition("/")[2]]

    def add_template(self, template: dict[str, Any], digest: str = "sha256:e") -> None:
        name = template["name"]
        self.entries[name] = {"name": f"ext/{name}", "short": name, "summary": "", "extension": "ext", "version": "1.0.0",
                              "extension_digest": digest, "digest": "sha256:t", "template": template}

    def add_runnable(self, descriptor: dict[str, Any], digest: str = "sha256:r1") -> None:
        name = descriptor["name"]
        self.runnables[name] = {"address": f"runnable://fuseml/ext/{name}@{digest}", "digest": digest,
                                "descriptor": {"command": ["x"], **descriptor}, "contents": "file:///ext"}


class Workshop:
    """Everything put together as the composition root does it; `settle` turns the loop until nothing changes."""

    def __init__(self, database) -> None:
        self.ledger = SqlLedger(database)
        self.components, self.gateway, self.catalog = MemoryComponents(), MemoryGateway(), MemoryCatalog()
        self.store, self.agent = self.components.memory, self.components.scripted
        self.services = Services(self.ledger, self.components, lambda p, n, path: f"http://test/{p}/{n}{path}")
        self.projects = Projects(self.ledger, self.components, self.services.stop_of_project)
        self.codesets = Codesets(self.ledger, self.components, self.projects, lambda: None,
                                 lambda p, n: f"http://test/git/{p}/{n}.git")
        self.pipelines = Pipelines(self.ledger, self.catalog, self.projects, lambda: None, self.services.stop_of_pipeline)
        self.runs = Runs(self.ledger, self.components, lambda: None)
        self.manual = ManualRuns(self.ledger, self.pipelines, self.catalog, lambda: None)
        self.engine = self.make_engine()

    def make_engine(self) -> Reconciler:
        questions = Asking()
        completion = Completion(self.ledger, self.components, questions)
        self.serving = Serving(self.ledger, self.components, self.gateway, completion, questions, drain=30.0,
                               url=lambda p, n, path: f"http://test/{p}/{n}{path}")
        self.services.changed = self.serving.publish
        if hasattr(self, "engine"):
            self.engine.stop()
        progress = Progress(self.ledger, self.components, questions, self.serving.prepare)
        return Reconciler(self.ledger, self.components, questions, progress, completion, self.serving)

    def turn(self, times: int = 1) -> None:
        """Let the loop look at everything."""
        for _ in range(times):
            self.engine._compared_at = 0.0
            self.engine._turn()

    def push(self, name: str, tree: dict[str, str], commit: str, branch: str = "main", project: str = "p"):
        self.store.trees[f"git:{commit * 40}"] = tree
        return self.codesets.push(project, name, commit * 40, branch)


@pytest.fixture
def workshop(database, monkeypatch):
    """The engine with a project `p` and templates to train and to serve."""
    # A slow machine must not make a turn of the loop end before what it began.
    monkeypatch.setattr(asking, "AT_ONCE", 60.0)
    shop = Workshop(database)
    shop.projects.create("p")
    shop.catalog.add_runnable({"name": "builder", "kind": "builder", "inputs": [
        {"name": "code", "kind": "codeset", "types": ["mlflow-project"], "filter": ["MLproject", "conda.yaml"]}],
        "outputs": [{"name": "trainer", "kind": "runnable"}]})
    shop.catalog.add_runnable({"name": "predictor", "kind": "predictor", "service": {}, "inputs": [
        {"name": "model", "kind": "model"}]})
    shop.catalog.add_template({
        "name": "training", "inputs": {"code": {"kind": "codeset", "types": ["mlflow-project"]}}, "open_parameters": True,
        "steps": {
            "build": {"runnable": "builder", "inputs": {"code": "inputs.code"}},
            "train": {"from": "build.trainer", "open_parameters": True, "filters": {"code": ["!*.md"]}, "interface": {
                "kind": "trainer", "inputs": [{"name": "code", "kind": "codeset"}],
                "outputs": [{"name": "model", "kind": "model"}]}, "inputs": {"code": "inputs.code"}}},
        "outputs": {"model": {"from": "train.model"}}})
    shop.catalog.add_template({
        "name": "serving", "inputs": {"model": {"kind": "model"}},
        "parameters": {"predictor": {"default": "auto", "default_from": "inputs.model.metadata.flavor", "shown": True}},
        "steps": {"serve": {"runnable": "predictor", "inputs": {"model": "inputs.model"}}},
        "outputs": {"url": {"from": "serve.url"}}})
    shop.agent.outcome = outcome
    yield shop
    shop.engine.stop()


def outcome(workload):
    """What the two templates' steps put out: a trainer for each MLproject, a model for each tree."""
    kind = workload.runnable.kind
    if kind == "builder":
        trainer = {"kind": "trainer", "name": "trainer", "command": ["train"], "open_parameters": False,
                   "parameters": [{"name": "alpha", "type": "float", "default": 0.5}],
                   "inputs": [{"name": "code", "kind": "codeset"}], "outputs": [{"name": "model", "kind": "model"}]}
        return {"state": "succeeded", "outputs": [{"name": "trainer", "kind": "runnable", "location": {
            "uri": "file:///w/a"}, "artifact_name": "app-trainer", "metadata": {"descriptor": trainer}}]}
    if kind == "trainer":
        commit = workload.inputs[0].digest.partition(":")[2][:8]
        alpha = str(workload.parameters["alpha"]).replace(".", "")
        return {"state": "succeeded", "outputs": [{"name": "model", "kind": "model", "type": "mlflow/sklearn",
                "location": {"uri": f"file:///w/{commit}{alpha}"}, "metadata": {"flavor": "sklearn"}}],
                "metrics": [{"key": "r2", "value": 0.5}]}
    return {"state": "ready", "endpoint": "unix:/tmp/x.sock"}


@pytest.fixture
def raises_fuseml():
    """Expect an error of a class with a phrase in its message."""
    def expect(kind, phrase):
        import re

        return pytest.raises(kind, match=re.escape(phrase))

    return expect
