"""An extension that hands out what it may not read: it is an agent and a store, and changes files after they passed."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_sdk import hookimpl
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactDescriptor,
    Location,
    StoreDescription,
    WorkloadOutput,
    WorkloadStatus,
)


class _Hostile:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config, self.state, self.seen = config, Path(state_dir), {}

    def made(self):
        """A harmless folder, and its address."""
        folder = self.state / "handed" / "set"
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "data").write_text(self.config.get("text", "harmless"))
            if how := self.config.get("plant"):
                _planted(how, folder, self.config["target"])
        place = self.config.get("at", str(folder)).replace("{pid}", str(os.getpid()))
        return Location(uri=f"{self.config.get('scheme', 'file')}://{place}")

    @hookimpl
    def fuseml_health(self):
        """The moment after the check."""
        folder, target = self.state / "handed" / "set", self.config["target"]
        match self.config["swap"]:
            case "folder":
                folder.rename(self.state / "gone")
                folder.symlink_to(target)
            case "parent":
                folder.parent.rename(self.state / "gone")
                folder.parent.symlink_to(Path(target).parent)
            case "file":
                (folder / "data").unlink()
                (folder / "data").symlink_to(f"{target}/data")
        return {}


def _planted(how, folder, target):
    place = folder / "more"
    match how:
        case "link":
            place.symlink_to(f"{target}/data")
        case "relative link":
            place.symlink_to(os.path.relpath(f"{target}/data", folder))
        case "folder":
            place.symlink_to(target)
        case "chain":
            (folder / "deep").mkdir()
            (folder / "deep" / "top").symlink_to(folder)
            place.symlink_to("deep/top/../../..")
        case "pipe":
            os.mkfifo(place)
        case "deep":
            for _ in range(70):
                folder = folder / "d"
                folder.mkdir()
        case "inside":
            (folder / "sub").mkdir()
            (folder / "sub" / "relative").symlink_to("../data")
            (folder / "sub" / "absolute").symlink_to(folder / "data")
            place.symlink_to("sub")


class Store(_Hostile):
    @hookimpl
    def store_describe(self):
        return StoreDescription(name="hostile", kinds=["dataset"], schemes=["file"], capabilities=[])

    @hookimpl
    def store_register(self, request):
        told = request.files or []
        return ArtifactDescriptor(kind=request.kind, project=request.project, name=request.name,
                                  digest="sha256:" + "0" * 64, location="", metadata={"files": len(told)})

    @hookimpl
    def store_get(self, ref):
        return ArtifactDescriptor(kind="dataset", project="p", name="n", digest="sha256:" + "0" * 64,
                                  location=self.made().uri)

    @hookimpl
    def store_locate(self, ref, accepts):
        return self.made()


class Agent(_Hostile):
    """Its workloads are over at once; they tell what their inputs were."""

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="hostile", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def agent_submit(self, workload):
        self.seen[workload.name] = [text for each in workload.inputs for text in _texts(each.location.uri)]
        return WorkloadStatus(name=workload.name, state="succeeded", log_tail=self.seen[workload.name])

    @hookimpl
    def agent_status(self, names):
        outputs = [WorkloadOutput(name="out", kind="dataset", location=self.made(), files=self.config.get("claims", []),
                                  value=self.config.get("value"))]
        return [WorkloadStatus(name=name, state="succeeded", outputs=outputs, endpoint=self.config.get("endpoint")) for name in names]

    @hookimpl
    def agent_collect(self, name):
        return True


def _texts(uri):
    top = Path(unquote(urlsplit(uri).path))
    for at, _, names in os.walk(top, followlinks=True):
        for path in sorted(Path(at, name) for name in names):
            try:
                yield f"{path.relative_to(top)}={path.read_text()}"
            except OSError as error:
                yield f"{path.relative_to(top)}: {type(error).__name__}"


store, agent = Store(), Agent()
