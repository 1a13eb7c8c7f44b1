"""Build a bundle from its source folder: validate everything, then lay it out as blobs and one manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.bundles.checks import check_components, check_lock, check_manifest, check_runnables
from fuseml_oci.bundles.descriptor import (
    ICON_TYPES,
    LAYER_TYPES,
    MAX_LAYER,
    MAX_LAYERS,
    MAX_TOTAL,
    TAR_KINDS,
    BundleLayer,
    ExtensionDescriptor,
    LayerKind,
    encode_json,
)
from fuseml_oci.bundles.documents import Document, contents_of, read_documents
from fuseml_oci.bundles.icons import check_icon
from fuseml_oci.bundles.tree import SourceFile, read_file, read_tree
from fuseml_oci.bundles.wheel_cache import WheelCache
from fuseml_oci.bundles.wheels import Wheel, check_names, make_wheel
from fuseml_oci.bundles.wiring import Catalogue, check_template
from fuseml_oci.digests import digest_bytes, digest_file
from fuseml_sdk import archives
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ExtensionManifest, parse_manifest
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import FileEntry, RunnableDescriptor

MANIFEST_FILE = "extension.toml"
LOCK_FILE = "requirements.lock"
_CONSTRAINTS_FILE = "build-constraints.txt"


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """A bundle in memory, ready to be written or pushed.

    Attributes:
        descriptor: What the config blob says.
        manifest: Bytes of the OCI image manifest; their digest is the identity of the bundle.
        blobs: Digest to bytes, of the config and of every layer; vendored wheels stay in their files.
    """

    descriptor: ExtensionDescriptor
    manifest: bytes
    blobs: Mapping[str, bytes | Path]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the manifest."""
        return digest_bytes(self.manifest)


@dataclass(frozen=True, slots=True)
class _Source:
    """A validated source folder."""

    manifest: ExtensionManifest
    runnables: list[RunnableDescriptor]
    templates: list[PipelineTemplate]
    trees: dict[str, list[SourceFile]]
    wheels: list[Wheel]
    vendored: list[FileEntry]
    places: dict[str, Path]
    readme: SourceFile | None
    icon: SourceFile | None


def build(source: Path, *, dev: bool = False, wheels: WheelCache | None = None,
          vendored: Sequence[Path] = (), make: Callable[..., Wheel] | None = None) -> BuiltBundle:
    """Build the bundle of a folder with `extension.toml`. The same source gives the same digest on any machine.

    Args:
        source: The folder. `runnables/`, `templates/`, `files/`, `README.md` and `requirements.lock` are taken when
            they are there; projects named in `environment.wheels` are built by uv, with the pins of
            `build-constraints.txt` if there is one.
        dev: Append `-dev.<12 digits of the contents' digest>` to the version, so that every change has its own.
        wheels: Takes and keeps wheels that were built before; without it each is built anew.
        vendored: Wheel files of the lock (:mod:`fuseml_oci.bundles.vendoring`) that the bundle carries, as they are.
        make: Makes the wheel of a project folder instead.

    Raises:
        InvalidInput: Something in the folder is wrong; the message names file, field and reason.
    """
    read = _read(source, make or (wheels.make if wheels else make_wheel), vendored)
    built = _assemble(read, read.manifest.version)
    if not dev:
        return built
    return _assemble(read, development_version(read.manifest.version, built.digest))


def development_version(version: str, digest: str) -> str:
    """Return `X.Y.Z-dev.<digest12>`; a pre-release keeps its own identifiers before that."""
    hexadecimal = digest.partition(":")[2]
    windows = (hexadecimal[i:i + 12] for i in range(len(hexadecimal) - 11))
    # Semver forbids a leading zero in an identifier of digits only.
    short = next(window for window in windows if not (window.isdigit() and window.startswith("0")))
    return f"{version}{'.' if '-' in version else '-'}dev.{short}"


def read_source_manifest(source: Path) -> ExtensionManifest:
    """Read extension.toml of a source folder.

    Raises:
        InvalidInput: There is none, or it is wrong.
    """
    if not (source / MANIFEST_FILE).is_file():
        raise InvalidInput(f"{source} is not the source of a bundle: it has no {MANIFEST_FILE}")
    text = read_file(source, MANIFEST_FILE, limit=1 << 20, field="bundle").data
    try:
        return parse_manifest(text.decode(), source=MANIFEST_FILE)
    except UnicodeDecodeError:
        raise InvalidInput(f"{MANIFEST_FILE} is not UTF-8 text") from None


def _read(source: Path, make: Callable[..., Wheel], vendored: Sequence[Path]) -> _Source:
    manifest = read_source_manifest(source)
    check_manifest(manifest)
    trees = {kind: read_tree(source, kind, limit=MAX_LAYER[kind]) for kind in ("runnables", "templates", "files")}
    trees["agents"] = read_lock(source, manifest)
    runnables = read_documents(trees["runnables"], manifest.runnables, "runnables", RunnableDescriptor)
    templates = read_documents(trees["templates"], manifest.templates, "templates", PipelineTemplate)
    wheels = read_wheels(source, manifest, make)
    _check(manifest, runnables, templates, trees, wheels)
    carried, places = _vendored(vendored)
    return _Source(_bundled(manifest, runnables, templates, wheels, bool(trees["agents"]), carried),
                   [d.model for d in runnables], [d.model for d in templates], trees, wheels, carried, places,
                   _optional(source, "README.md", "readme"), read_icon(source, manifest))


def _check(manifest: ExtensionManifest, runnables: list[Document[RunnableDescriptor]],
           templates: list[Document[PipelineTemplate]], trees: dict[str, list[SourceFile]],
           wheels: list[Wheel]) -> None:
    lock = trees["agents"][0].data.decode(errors="replace") if trees["agents"] else ""
    check_components(manifest, wheels, lock)
    paths = {file.path for tree in trees.values() for file in tree} | {f"wheels/{w.filename}" for w in wheels}
    check_runnables(runnables, paths)
    catalogue = Catalogue(manifest.name, {d.model.name: d.model for d in runnables},
                          frozenset(dependency.name for dependency in manifest.dependencies))
    for document in templates:
        check_template(document, catalogue)
    if not (manifest.components or runnables or templates):
        raise InvalidInput(f"{MANIFEST_FILE}: the bundle has no components, runnables or templates",
                           hint="Add one; an empty bundle does nothing.")


def read_lock(source: Path, manifest: ExtensionManifest) -> list[SourceFile]:
    """Read and check the lock; nothing if the extension has none."""
    named = manifest.environment.lock if manifest.environment else ""
    if not named or (named == LOCK_FILE and not (source / LOCK_FILE).exists()):
        return []
    file = read_file(source, named, limit=MAX_LAYER["agents"], field=f"{MANIFEST_FILE}: environment.lock")
    try:
        check_lock(file.data.decode(), named)
    except UnicodeDecodeError:
        raise InvalidInput(f"{named} is not UTF-8 text") from None
    return [SourceFile(LOCK_FILE, file.data)]


def read_wheels(source: Path, manifest: ExtensionManifest, make: Callable[..., Wheel]) -> list[Wheel]:
    """Make the wheels; their projects may lie outside the bundle's folder, since only wheels enter the bundle."""
    pins = source / _CONSTRAINTS_FILE
    constraints = pins if pins.is_file() else None
    folders = [(source / folder).resolve() for folder in (manifest.environment.wheels if manifest.environment else [])]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        wheels = list(pool.map(lambda folder: make(folder, constraints=constraints), folders))
    names = [wheel.distribution for wheel in wheels]
    for wheel in wheels:
        if names.count(wheel.distribution) > 1:
            raise InvalidInput(f"{MANIFEST_FILE}: environment.wheels: {wheel.distribution} is there twice")
    return sorted(wheels, key=lambda wheel: wheel.filename)


def _vendored(paths: Sequence[Path]) -> tuple[list[FileEntry], dict[str, Path]]:
    """The vendored wheels by file name, and where the bytes of each digest lie."""
    entries: list[FileEntry] = []
    places: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: path.name):
        check_names(path.name, path)
        digest, size = digest_file(path)
        entries.append(FileEntry(path=path.name, size=size, digest=digest))
        places[digest] = path
    return entries, places


def _bundled(manifest: ExtensionManifest, runnables: list[Document[RunnableDescriptor]],
             templates: list[Document[PipelineTemplate]], wheels: list[Wheel], locked: bool,
             vendored: list[FileEntry]) -> ExtensionManifest:
    """The manifest as the bundle carries it: contents listed, wheels by file name."""
    environment = manifest.environment
    if environment is not None:
        environment = environment.model_copy(update={"lock": LOCK_FILE if locked else "",
                                                     "wheels": [wheel.filename for wheel in wheels],
                                                     "vendored": [file.path for file in vendored]})
    return manifest.model_copy(update={"environment": environment, "runnables": contents_of(runnables),
                                       "templates": contents_of(templates)})


def read_icon(source: Path, manifest: ExtensionManifest) -> SourceFile | None:
    """Read and check the icon, if there is one."""
    if not manifest.icon:
        return None
    if Path(manifest.icon).suffix not in ICON_TYPES:
        raise InvalidInput(f"{MANIFEST_FILE}: icon: {manifest.icon!r} is neither .svg nor .png")
    file = read_file(source, manifest.icon, limit=MAX_LAYER["icon"], field=f"{MANIFEST_FILE}: icon")
    check_icon(file.data, manifest.icon)
    return file


def _optional(source: Path, name: str, kind: str) -> SourceFile | None:
    if not (source / name).exists():
        return None
    return read_file(source, name, limit=MAX_LAYER[kind], field="bundle")


def _assemble(read: _Source, version: str) -> BuiltBundle:
    manifest = read.manifest.model_copy(update={"version": version})
    layers: list[BundleLayer] = []
    blobs: dict[str, bytes | Path] = {}

    def add(kind: LayerKind, title: str, data: bytes, media_type: str) -> None:
        _refuse_large(kind, title, len(data))
        layers.append(BundleLayer(kind=kind, media_type=media_type, digest=digest_bytes(data), size=len(data),
                                  title=title))
        blobs[layers[-1].digest] = data

    for kind in TAR_KINDS:
        if read.trees[kind]:
            files = ((file.path, file.data, file.executable) for file in read.trees[kind])
            add(kind, f"{kind}.tar", archives.tar_of(files), LAYER_TYPES[kind])  # type: ignore[arg-type]
    for wheel in read.wheels:
        add("wheel", wheel.filename, wheel.data, LAYER_TYPES["wheel"])
    for file in read.vendored:
        _refuse_large("vendored", file.path, file.size)
        layers.append(BundleLayer(kind="vendored", media_type=LAYER_TYPES["vendored"], digest=file.digest,
                                  size=file.size, title=file.path))
        blobs[file.digest] = read.places[file.digest]
    if read.readme:
        add("readme", "README.md", read.readme.data, LAYER_TYPES["readme"])
    if read.icon:
        suffix = Path(read.icon.path).suffix
        add("icon", f"icon{suffix}", read.icon.data, ICON_TYPES[suffix])
        manifest = manifest.model_copy(update={"icon": f"icon{suffix}"})
    if len(layers) > MAX_LAYERS:
        raise InvalidInput(f"the bundle has {len(layers)} layers; at most {MAX_LAYERS} are allowed",
                           hint="Vendor wheels for fewer platforms and Python versions.")
    if sum(layer.size for layer in layers) > MAX_TOTAL:
        raise InvalidInput(f"the bundle has more than {MAX_TOTAL} bytes")
    descriptor = ExtensionDescriptor(api_version="fuseml.io/v1", manifest=manifest, runnables=read.runnables,
                                     templates=read.templates, layers=layers, files=_file_list(read))
    config = descriptor.encode()
    blobs[digest_bytes(config)] = config
    return BuiltBundle(descriptor, encode_json(_oci_manifest(descriptor, config)), blobs)


def _refuse_large(kind: str, title: str, size: int) -> None:
    if size > MAX_LAYER[kind]:
        raise InvalidInput(f"{title} has {size} bytes; at most {MAX_LAYER[kind]} are allowed")


def _file_list(read: _Source) -> list[FileEntry]:
    files = [file for kind in TAR_KINDS for file in read.trees[kind]]
    files += [SourceFile(f"wheels/{wheel.filename}", wheel.data) for wheel in read.wheels]
    files += [SourceFile("README.md", read.readme.data)] if read.readme else []
    files += [SourceFile(f"icon{Path(read.icon.path).suffix}", read.icon.data)] if read.icon else []
    entries = [FileEntry(path=f.path, size=len(f.data), digest=f.digest, executable=f.executable) for f in files]
    entries += [file.model_copy(update={"path": f"vendored/{file.path}"}) for file in read.vendored]
    return sorted(entries, key=lambda entry: entry.path.encode())


def _oci_manifest(descriptor: ExtensionDescriptor, config: bytes) -> dict[str, object]:
    """The OCI image manifest (image-spec, manifest.md)."""
    manifest = descriptor.manifest
    annotations = {
        media.TITLE: manifest.name, media.VERSION: manifest.version, media.DESCRIPTION: manifest.summary,
        media.LICENSES: manifest.licence, media.SOURCE: manifest.links.get("source", ""),
        media.EXTENSION_NAME: manifest.name, media.EXTENSION_REQUIRES: manifest.requires_fuseml,
    }
    return {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "artifactType": media.EXTENSION,
        "config": {"mediaType": media.EXTENSION_CONFIG, "digest": digest_bytes(config), "size": len(config)},
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size,
                    "annotations": {media.TITLE: layer.title}} for layer in descriptor.layers],
        "annotations": {key: value for key, value in annotations.items() if value},
    }
