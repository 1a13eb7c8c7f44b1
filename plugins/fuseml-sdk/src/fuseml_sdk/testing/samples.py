"""What a suite gives to a plugin and cannot know: contents that a store takes, workloads that an agent runs.

The defaults suit ordinary plugins and need no network. Authors whose plugin wants something else derive a class and
pass it as `samples=`.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import (
    ArtifactRef,
    FileEntry,
    FileListing,
    Location,
    RegisterRequest,
    RunnableDescriptor,
    Workload,
    WorkloadInput,
)

#: Project of everything that samples make.
PROJECT = "conformance"


class Samples:
    """Samples for stores, agents and builders; override what your plugin wants otherwise.

    Attributes:
        touch_state: Whether `artifact` works in the plugin's state directory, as a `git push` to a path in it does.
            It then cannot be mounted for the plugin alone, and a full disk is a limit on the size of files.
    """

    touch_state = False

    def artifact(self, plugin: ServedPlugin, folder: Path, text: str, *, name: str = "sample") -> RegisterRequest:
        """Contents that the store can register. Equal texts must make equal contents.

        Args:
            plugin: The store, for those where contents are put by other hooks first.
            folder: Empty directory for the contents; the store may take it over.
            text: What the contents hold.
            name: Of the artifact.
        """
        kind = plugin.call("store_describe").kinds[0]
        (folder / "data.csv").write_text(text, encoding="utf-8")
        return RegisterRequest(kind=kind, project=PROJECT, name=name, source=Location(uri=folder.as_uri()),
                               labels={"made-by": "conformance"})

    def missing(self, plugin: ServedPlugin) -> ArtifactRef:
        """A well-formed reference to a version that does not exist."""
        kind = plugin.call("store_describe").kinds[0]
        digest = f"git:{secrets.token_hex(20)}" if kind == "codeset" else f"sha256:{secrets.token_hex(32)}"
        return ArtifactRef(kind=kind, project=PROJECT, name="missing", digest=digest)

    def job(self, command: list[str], *, inputs: list[WorkloadInput] | None = None) -> Workload:
        """A job that runs a command; each call makes one of another name."""
        name = f"conformance-{secrets.token_hex(4)}"
        return Workload(name=name, runnable=RunnableDescriptor(name="conformance", command=command),
                        inputs=inputs or [], labels={"project": PROJECT})

    def quick(self, text: str = "done") -> Workload:
        """A job that writes a text, without a newline at its end added, and ends with exit code 0."""
        return self.job(["{python}", "-c", f"import sys; sys.stdout.buffer.write({text.encode()!r})"])

    def failing(self) -> Workload:
        """A job that ends with exit code 3."""
        return self.job(["{python}", "-c", "import sys; sys.exit(3)"])

    def lasting(self) -> Workload:
        """A job that runs for minutes unless it is cancelled.

        It ends, too, when its working directory is removed: an agent that forgets its jobs leaves none behind.
        """
        return self.job(["{python}", "-c", "import os, time; [(os.getcwd(), time.sleep(1)) for _ in range(600)]"])

    def codeset(self, folder: Path) -> Path | None:
        """A directory with a codeset that the builder recognises; None if the author offers none."""
        del folder
        return None

    def broken_codeset(self, folder: Path) -> Path | None:
        """A directory with a codeset that the builder recognises but cannot build; None if there is no such thing."""
        del folder
        return None

    def builds(self) -> bool:
        """Whether `codeset` can be built here, with the network that tests have."""
        return True


def listing_of(folder: Path, reads: list[str]) -> FileListing:
    """The listing of a directory as a server hands it to `builder_detect`."""
    from fuseml_sdk.globs import matches

    files, contents = [], {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data, name = path.read_bytes(), path.relative_to(folder).as_posix()
        files.append(FileEntry(path=name, size=len(data), digest=f"sha256:{hashlib.sha256(data).hexdigest()}"))
        if reads and matches(name, reads):
            contents[name] = data.decode(errors="replace")
    return FileListing(files=files, contents=contents)
