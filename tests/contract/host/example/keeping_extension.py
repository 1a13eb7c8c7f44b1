"""A store that takes over what it is given and hands out what it is told to, and an agent that reads its inputs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_sdk import errors, hookimpl
from fuseml_sdk.types import AgentDescription, ArtifactDescriptor, Location, StoreDescription, WorkloadStatus


class Keeper:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config, self.state = config, Path(state_dir)

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="keeper", kinds=["model"], schemes=["file"], capabilities=["register"])

    @hookimpl
    def store_register(self, request):
        if request.labels.get("fail"):
            raise errors.NotReady("not today")
        source = Path(unquote(urlsplit(request.source.uri).path))
        seen = sorted(str(path.relative_to(source)) for path in source.rglob("*"))
        kept = self.state / "kept"
        source.rename(kept)
        (kept / "added").write_text("mine")
        for path in kept.iterdir():
            if path.is_file() and not path.is_symlink():
                path.write_text(path.read_text() + " changed")
        return ArtifactDescriptor(kind="model", project=request.project, name=request.name, digest="sha256:" + "0" * 64,
                                  location=f"file://{kept}", metadata={"seen": seen, "source": str(source)})

    @hookimpl
    def store_get(self, ref):
        return ArtifactDescriptor(kind="model", project="p", name="n", digest="sha256:" + "0" * 64,
                                  location=self.config["hand_out"])

    @hookimpl
    def store_locate(self, ref, accepts):
        return Location(uri=self.config["hand_out"])


store = Keeper()


class Reader:
    """An agent whose workloads are over at once: it reads its inputs and changes what it got."""

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.seen = {}

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="reader", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def agent_submit(self, workload):
        if workload.name not in self.seen:
            self.seen[workload.name] = []
            for location in [*(each.location for each in workload.inputs), workload.contents]:
                path = Path(unquote(urlsplit(location.uri).path))
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    if file.is_file() and not file.is_symlink():
                        self.seen[workload.name].append(f"{file.name}={file.read_text()}")
                        file.write_text("changed")
        return self.agent_status([workload.name])[0]

    @hookimpl
    def agent_status(self, names):
        return [WorkloadStatus(name=name, state="succeeded" if name in self.seen else "unknown",
                               log_tail=self.seen.get(name, [])) for name in names]

    @hookimpl
    def agent_collect(self, name):
        return self.seen.pop(name, None) is not None


reader = Reader()
