"""Reading the OCI manifest of a bundle that came from elsewhere: nothing in it is believed before it is checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuseml_oci import media
from fuseml_oci.bundles.descriptor import (
    ICON_TYPES,
    LAYER_TYPES,
    MAX_CONFIG,
    MAX_LAYER,
    MAX_LAYERS,
    MAX_TOTAL,
    TAR_KINDS,
    WHEEL_FOLDERS,
    BundleLayer,
    ExtensionDescriptor,
    LayerKind,
    decode_descriptor,
)
from fuseml_oci.descriptor import Descriptor, read_descriptor
from fuseml_oci.signing.strict_json import read_strictly
from fuseml_sdk.errors import InvalidInput

_KINDS: dict[str, str] = {**{value: kind for kind, value in LAYER_TYPES.items()},
                          **dict.fromkeys(ICON_TYPES.values(), "icon")}
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{0,199}")


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """The checked manifest of a bundle: where its config and layers are and what each layer is."""

    source: str
    config: Descriptor
    layers: tuple[BundleLayer, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers together."""
        return sum(layer.size for layer in self.layers)


def read_manifest(data: bytes, media_type: str, source: str) -> BundleManifest:
    """Read and check the manifest of a bundle.

    Args:
        data: Its bytes, digest already verified.
        media_type: What the registry or layout calls it.
        source: What to call it in errors.

    Raises:
        InvalidInput: It is not the manifest of an extension, or sizes, types or names are not acceptable.
    """
    if media_type != media.MANIFEST:
        raise InvalidInput(f"{source} is not a bundle: it is {media_type or 'of no type'}, not an OCI image manifest")
    document = read_strictly(data, f"the manifest of {source}")
    found = document.get("artifactType")
    if found != media.EXTENSION:
        raise InvalidInput(f"{source} is not a bundle: its artifact type is {str(found)[:100]!r}",
                           hint=f"Bundles have {media.EXTENSION}.")
    config = read_descriptor(document.get("config"), f"the config of {source}")
    if config.media_type != media.EXTENSION_CONFIG:
        raise InvalidInput(f"{source}: the config is {config.media_type[:100]!r}, not {media.EXTENSION_CONFIG}")
    if config.size > MAX_CONFIG:
        raise InvalidInput(f"{source}: the config has {config.size} bytes; at most {MAX_CONFIG} are allowed")
    entries = document.get("layers")
    if not isinstance(entries, list) or len(entries) > MAX_LAYERS:
        raise InvalidInput(f"{source}: the manifest has no list of at most {MAX_LAYERS} layers")
    layers = tuple(_layer(entry, f"layer {number} of {source}") for number, entry in enumerate(entries, start=1))
    _check_layers(layers, source)
    return BundleManifest(source, config, layers)


def read_config(manifest: BundleManifest, data: bytes) -> ExtensionDescriptor:
    """Read the config blob and check that it speaks of the layers that the manifest has.

    Raises:
        InvalidInput: It is no descriptor, or the two disagree.
    """
    descriptor = decode_descriptor(data, manifest.source)
    if tuple(descriptor.layers) != manifest.layers:
        raise InvalidInput(f"{manifest.source}: the descriptor and the manifest name different layers",
                           hint="Something changed the bundle after it was built.")
    return descriptor


def _layer(entry: object, where: str) -> BundleLayer:
    read = read_descriptor(entry, where)
    kind = _KINDS.get(read.media_type)
    if kind is None:
        raise InvalidInput(f"{where} has the media type {read.media_type[:100]!r}, which no bundle has")
    if not read.digest.startswith("sha256:"):
        raise InvalidInput(f"{where} has the digest {read.digest[:20]!r}…; bundles use sha256")
    if read.size > MAX_LAYER[kind]:
        raise InvalidInput(f"{where} has {read.size} bytes; at most {MAX_LAYER[kind]} are allowed for {kind}")
    title = read.annotations.get(media.TITLE, "")
    if not _FILE_NAME.fullmatch(title) or (kind in WHEEL_FOLDERS) != title.endswith(".whl"):
        raise InvalidInput(f"{where} has the title {title[:100]!r}, which is not a file name for {kind}")
    return BundleLayer(kind=_known(kind), media_type=read.media_type, digest=read.digest, size=read.size, title=title)


def _known(kind: str) -> LayerKind:
    return kind  # type: ignore[return-value]  # the keys of LAYER_TYPES and `icon` are the LayerKinds


def _check_layers(layers: tuple[BundleLayer, ...], source: str) -> None:
    titles = [(layer.kind == "vendored", layer.title.casefold()) for layer in layers]
    for kind in [*TAR_KINDS, "readme", "icon"]:
        if sum(layer.kind == kind for layer in layers) > 1:
            raise InvalidInput(f"{source}: there are several layers with {kind}")
    if len(set(titles)) != len(titles):
        raise InvalidInput(f"{source}: two layers have the same title")
    total = sum(layer.size for layer in layers)
    if total > MAX_TOTAL:
        raise InvalidInput(f"{source}: the layers have {total} bytes; at most {MAX_TOTAL} are allowed")
