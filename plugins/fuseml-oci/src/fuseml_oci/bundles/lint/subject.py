"""What the rules look at: the same view of a bundle, whether it was built just now or came from a registry."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from pathlib import Path
from typing import IO

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fuseml_oci.bundles.descriptor import MAX_FILES, MAX_TOTAL, TAR_KINDS, BundleLayer, ExtensionDescriptor
from fuseml_oci.bundles.wheels import UNREADABLE, check_names
from fuseml_oci.sections import Source, open_source
from fuseml_sdk import archives
from fuseml_sdk.manifest import ExtensionManifest
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import RunnableDescriptor

#: Bytes of each file that rules get to see, and of all files of a layer or wheel together.
SEEN, SEEN_TOGETHER = 1 << 20, 128 << 20
_METADATA = 4 << 20
_LIMITS = archives.Limits(members=MAX_FILES, size=MAX_TOTAL)
_PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;\\]+)")


@dataclass(frozen=True, slots=True)
class WheelFacts:
    """What a wheel says about itself.

    Attributes:
        filename: Its file name.
        distribution: Normalised name.
        version: As in the metadata.
        requires: Requirements that count without extras.
        requires_python: Range of Python versions; empty: any.
        names: Files inside.
        texts: Small text files inside, for scans; only of the extension's own wheels.
    """

    filename: str
    distribution: str
    version: str
    requires: tuple[Requirement, ...]
    requires_python: str
    names: frozenset[str]
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Subject:
    """A bundle that was built, and what is known around it.

    Attributes:
        manifest: What extension.toml says, contents listed.
        runnables: By file.
        templates: By file.
        files: First MiB of every file that is not a wheel.
        sizes: Bytes of each of them.
        wheels: Of the extension itself.
        vendored: Of its lock.
        hashes: SHA-256 of each vendored wheel, by file name.
        source: The folder it was built from, if it was.
        published: Versions that are in the registry; None: unknown.
        referrers: Artifact and predicate types that refer to the bundle there; None: unknown.
    """

    manifest: ExtensionManifest
    runnables: Mapping[str, RunnableDescriptor]
    templates: Mapping[str, PipelineTemplate]
    files: Mapping[str, bytes]
    sizes: Mapping[str, int]
    wheels: Sequence[WheelFacts] = ()
    vendored: Sequence[WheelFacts] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    source: Path | None = None
    published: Sequence[str] | None = None
    referrers: Sequence[str] | None = None

    def text(self, path: str) -> str | None:
        """A file as text; None if the bundle has no such file."""
        data = self.files.get(path)
        return None if data is None else data.decode(errors="replace")

    def around(self, *, source: Path | None = None, published: Sequence[str] | None = None,
               referrers: Sequence[str] | None = None) -> Subject:
        """The same bundle with what is known around it."""
        return replace(self, source=source, published=published, referrers=referrers)

    @property
    def lock(self) -> str:
        """The lock of the extension; empty if it has none."""
        return self.text(self.manifest.environment.lock) or "" if self.manifest.environment else ""

    @property
    def locks(self) -> str:
        """The lock of the extension and those that its runnables name, one after the other."""
        named = {environment.lock for runnable in self.runnables.values()
                 for environment in (runnable.environment, *runnable.environments.values())}
        own = self.manifest.environment.lock if self.manifest.environment else ""
        return "\n".join(self.text(path) or "" for path in sorted({own, *named} - {"", None}, key=str) if path)

    @property
    def pins(self) -> dict[str, set[str]]:
        """Versions in the lock by normalised name; several when they depend on the platform."""
        found: dict[str, set[str]] = {}
        for name, version in _PIN.findall(self.lock):
            found.setdefault(canonicalize_name(name), set()).add(version)
        return found


def subject_of(descriptor: ExtensionDescriptor, blob: Callable[[BundleLayer], Source]) -> Subject:
    """Read a bundle for linting; nothing is written anywhere.

    Args:
        descriptor: Its config.
        blob: Gives the verified bytes of a layer, or where they lie.

    Raises:
        InvalidInput: A layer is broken or hostile.
    """
    files: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    wheels: dict[str, list[WheelFacts]] = {"wheel": [], "vendored": []}
    for layer in descriptor.layers:
        data = blob(layer)
        if layer.kind in wheels:
            wheels[layer.kind].append(read_wheel(layer.title, data, texts=layer.kind == "wheel"))
        elif layer.kind in TAR_KINDS:
            with open_source(data)[0] as stream:
                _read_tar(stream, files, sizes)
        else:
            with open_source(data)[0] as stream:
                files[layer.title], sizes[layer.title] = stream.read(SEEN), layer.size
    manifest = descriptor.manifest
    runnables = {runnable.name: runnable for runnable in descriptor.runnables}
    templates = {template.name: template for template in descriptor.templates}
    return Subject(
        manifest, {entry.file: runnables[entry.name] for entry in manifest.runnables if entry.name in runnables},
        {entry.file: templates[entry.name] for entry in manifest.templates if entry.name in templates},
        files, sizes, tuple(wheels["wheel"]), tuple(wheels["vendored"]),
        {layer.title: layer.digest.partition(":")[2] for layer in descriptor.layers if layer.kind == "vendored"})


def read_wheel(filename: str, source: Source, *, texts: bool = False) -> WheelFacts:
    """Read the metadata of a wheel.

    Raises:
        InvalidInput: It is not a wheel, or names in it leave it.
    """
    check_names(filename, source)
    with open_source(source)[0] as file, zipfile.ZipFile(file) as archive:
        names = frozenset(archive.namelist())
        metadata = next((name for name in names if name.count("/") == 1 and name.endswith(".dist-info/METADATA")), "")
        message = BytesParser().parsebytes(_read_some(archive, metadata, _METADATA), headersonly=True)
        seen = _texts(archive, names) if texts else {}
    parts = filename.split("-")
    return WheelFacts(filename, canonicalize_name(parts[0]), str(message.get("Version") or parts[1]),
                      tuple(_requirements(message.get_all("Requires-Dist") or [])),
                      str(message.get("Requires-Python") or ""), names, seen)


def _texts(archive: zipfile.ZipFile, names: frozenset[str]) -> dict[str, bytes]:
    """The beginnings of the files of a wheel, as far as there is room."""
    seen: dict[str, bytes] = {}
    room = SEEN_TOGETHER
    for name in sorted(name for name in names if not name.endswith("/") and ".dist-info/" not in name):
        seen[name] = _read_some(archive, name, min(SEEN, room))
        room -= len(seen[name])
    return seen


def _read_some(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """At most so many bytes of a member, whatever the archive says about its size."""
    if not name:
        return b""
    try:
        with archive.open(name) as stream:
            return stream.read(limit)
    except UNREADABLE:
        return b""


def _requirements(lines: Sequence[str]) -> list[Requirement]:
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or "extra" not in str(requirement.marker):
            found.append(requirement)
    return found


def _read_tar(stream: IO[bytes], files: dict[str, bytes], sizes: dict[str, int]) -> None:
    room = SEEN_TOGETHER
    for path, blocks in archives.read_files(stream, limits=_LIMITS):
        kept, size, wanted = b"", 0, min(SEEN, room)
        for block in blocks:
            size += len(block)
            kept += block[:wanted - len(kept)] if len(kept) < wanted else b""
        files[path], sizes[path] = kept, size
        room -= len(kept)
