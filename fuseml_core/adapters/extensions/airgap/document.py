"""What an export says about itself: the config blob of a manifest of its own in the layout.

The manifest has `artifactType` application/vnd.fuseml.export.v1+json; its only layer is `fuseml.lock`. Nothing in the
document is believed: it names bundles by digest, and each is read, verified and judged by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of, read_descriptor, read_object
from fuseml_oci.digests import split_digest
from fuseml_oci.reference import parse
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import NAME, SEMVER

EXPORT = "application/vnd.fuseml.export.v1+json"
EXPORT_CONFIG = "application/vnd.fuseml.export.config.v1+json"
LOCK = "application/vnd.fuseml.lock.v1+toml"
#: `org.opencontainers.image.ref.name` of the export's own manifest.
REF_NAME = "fuseml-export"
VERSION = 1
MOST_BUNDLES = 1000


@dataclass(frozen=True, slots=True)
class ExportedBundle:
    """One bundle of an export.

    Attributes:
        name: Of the extension.
        version: Semantic version.
        digest: `sha256:<hex>` of the OCI manifest.
        reference: Where it came from, with digest: what the policy of the other machine is asked about.
        requested: Somebody asked for it; otherwise another one depends on it.
    """

    name: str
    version: str
    digest: str
    reference: str
    requested: bool


@dataclass(frozen=True, slots=True)
class ExportedCatalog:
    """One catalog of an export: the marketplace's name, where it came from, its digest."""

    name: str
    reference: str
    digest: str


@dataclass(frozen=True, slots=True)
class Document:
    """All that an export holds.

    Attributes:
        bundles: Dependencies before what needs them.
        catalogs: Of the marketplaces that bundles came from.
        platform: What the wheels are for, such as `linux-x86_64`; empty when there are none beside the bundles' own.
        python: Minor version of Python that the wheels are for.
    """

    bundles: tuple[ExportedBundle, ...]
    catalogs: tuple[ExportedCatalog, ...] = ()
    platform: str = ""
    python: str = ""

    def encode(self) -> bytes:
        """Canonical JSON; equal exports, equal bytes."""
        return canonical_json({"version": VERSION, "platform": self.platform, "python": self.python,
                               "bundles": [asdict(bundle) for bundle in self.bundles],
                               "catalogs": [asdict(catalog) for catalog in self.catalogs]})


def make_manifest(document: Document, lock: bytes) -> tuple[Descriptor, dict[str, bytes]]:
    """Return the entry of index.json for an export, and its blobs by digest."""
    config, layer = document.encode(), descriptor_of(lock, LOCK, {media.TITLE: "fuseml.lock"})
    described = descriptor_of(config, EXPORT_CONFIG)
    manifest = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": EXPORT,
                               "config": described.to_json(), "layers": [layer.to_json()]})
    entry = descriptor_of(manifest, media.MANIFEST, {media.REF_NAME: REF_NAME})
    entry = Descriptor(entry.media_type, entry.digest, entry.size, entry.annotations, EXPORT)
    return entry, {entry.digest: manifest, described.digest: config, layer.digest: lock}


def read_manifest(data: bytes, where: str) -> tuple[Descriptor, Descriptor]:
    """The descriptors of document and lock in the manifest of an export.

    Raises:
        InvalidInput: It is none.
    """
    manifest = read_object(data, f"the manifest of {where}")
    if manifest.get("artifactType") != EXPORT:
        raise InvalidInput(f"{where} is not an export of extensions")
    config = read_descriptor(manifest.get("config"), f"the config of {where}")
    layers = manifest.get("layers")
    if config.media_type != EXPORT_CONFIG or not isinstance(layers, list) or len(layers) != 1:
        raise InvalidInput(f"{where} is not an export of extensions of version {VERSION}",
                           hint="A newer FuseML may have made it.")
    return config, read_descriptor(layers[0], f"the lock of {where}")


def read_document(data: bytes, where: str) -> Document:
    """Read what an export says about itself.

    Raises:
        InvalidInput: Something in it is missing or wrong.
    """
    value = read_object(data, f"the document of {where}")
    if value.get("version") != VERSION:
        raise InvalidInput(f"{where} has version {str(value.get('version'))[:20]} of the format of exports; this "
                           f"server reads version {VERSION}", hint="Export it again with the same version of FuseML.")
    bundles = tuple(_bundle(entry, where) for entry in _list(value, "bundles", where))
    if not bundles or len({bundle.name for bundle in bundles}) != len(bundles):
        raise InvalidInput(f"{where} names no bundle, or an extension twice")
    catalogs = tuple(_catalog(entry, where) for entry in _list(value, "catalogs", where))
    return Document(bundles, catalogs, _text(value, "platform", where), _text(value, "python", where))


def _bundle(entry: Mapping[str, Any], where: str) -> ExportedBundle:
    read = ExportedBundle(_text(entry, "name", where), _text(entry, "version", where), _text(entry, "digest", where),
                          _text(entry, "reference", where), entry.get("requested") is True)
    if not NAME.match(read.name) or not SEMVER.match(read.version):
        raise InvalidInput(f"{where}: {read.name[:60]!r} {read.version[:60]!r} is not the name and version of an "
                           "extension")
    split_digest(read.digest)
    if not read.digest.startswith("sha256:") or parse(read.reference).digest != read.digest:
        raise InvalidInput(f"{where}: {read.name} has the digest {read.digest}, and its reference another one")
    return read


def _catalog(entry: Mapping[str, Any], where: str) -> ExportedCatalog:
    read = ExportedCatalog(_text(entry, "name", where), _text(entry, "reference", where),
                           _text(entry, "digest", where))
    split_digest(read.digest)
    parse(read.reference)
    if not NAME.match(read.name):
        raise InvalidInput(f"{where}: {read.name[:60]!r} is not the name of a marketplace")
    return read


def _list(value: Mapping[str, Any], key: str, where: str) -> Sequence[Mapping[str, Any]]:
    entries = value.get(key)
    if not isinstance(entries, list) or len(entries) > MOST_BUNDLES or not all(isinstance(e, dict) for e in entries):
        raise InvalidInput(f"{where}: {key} is not a list of at most {MOST_BUNDLES} objects")
    return entries


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or len(text) > 1000 or not text.isprintable():
        raise InvalidInput(f"{where}: {key} is not a line of text")
    return text
