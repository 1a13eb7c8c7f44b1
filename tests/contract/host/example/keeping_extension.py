"""A store that takes over what it is given, and hands out what its configuration says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_sdk import errors, hookimpl
from fuseml_sdk.types import ArtifactDescriptor, Location, StoreDescription


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
