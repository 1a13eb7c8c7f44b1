"""The form of a bundle: media types, limits and the descriptor that is its config blob."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, ValidationError

from fuseml_oci import media
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ExtensionManifest, explain
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import FileEntry, RunnableDescriptor, WireModel

README_TYPE = "text/markdown"
ICON_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}

#: Tar layers in the order they have in the manifest, and what the paths inside each must begin with.
TAR_KINDS: dict[str, tuple[str, ...]] = {
    "runnables": ("runnables/",),
    "templates": ("templates/",),
    "agents": ("requirements.lock",),
    "files": ("files/",),
}
#: Media type of each kind of layer; an icon has one of ICON_TYPES.
LAYER_TYPES: dict[str, str] = {
    "runnables": media.EXTENSION_RUNNABLES, "templates": media.EXTENSION_TEMPLATES, "agents": media.EXTENSION_AGENTS,
    "files": media.EXTENSION_FILES, "wheel": media.EXTENSION_WHEEL, "vendored": media.EXTENSION_VENDORED,
    "readme": README_TYPE,
}
LayerKind = Literal["runnables", "templates", "agents", "files", "wheel", "vendored", "readme", "icon"]
#: Folder that wheels are unpacked to: those of the extension itself, and those of its lock.
WHEEL_FOLDERS = {"wheel": "wheels", "vendored": "vendored"}

#: Bytes each part may have at most; a manifest that says more is refused before anything is fetched.
MAX_MANIFEST = 4 << 20
MAX_CONFIG = 4 << 20
MAX_LAYER: dict[str, int] = {"runnables": 256 << 20, "templates": 16 << 20, "agents": 16 << 20, "files": 1 << 30,
                             "wheel": 512 << 20, "vendored": 512 << 20, "readme": 1 << 20, "icon": 256 << 10}
MAX_TOTAL = 2 << 30
MAX_LAYERS = 512
MAX_FILES = 20_000


class BundleLayer(WireModel):
    """One layer of a bundle."""

    kind: LayerKind
    media_type: str
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")
    title: str = Field(description="file name: of a wheel, the README, the icon, or `<kind>.tar`")


class ExtensionDescriptor(WireModel):
    """Everything about an extension that can be known without unpacking it; the config blob of its bundle."""

    api_version: Literal["fuseml.io/v1"]
    manifest: ExtensionManifest
    runnables: list[RunnableDescriptor] = Field(default_factory=list)
    templates: list[PipelineTemplate] = Field(default_factory=list)
    layers: list[BundleLayer] = Field(default_factory=list)
    files: list[FileEntry] = Field(default_factory=list, description="what unpacking gives, the descriptor excepted")

    @property
    def name(self) -> str:
        """Name of the extension."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Semantic version of the extension."""
        return self.manifest.version

    def encode(self) -> bytes:
        """Canonical JSON: compact, defaults left out, so that a newer SDK gives the same bytes."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return encode_json(data)


def encode_json(data: Any) -> bytes:
    """Compact UTF-8 JSON that keeps the order of keys."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def decode_descriptor(blob: bytes, source: str) -> ExtensionDescriptor:
    """Read a config blob.

    Args:
        blob: Its bytes, digest already verified.
        source: What to call it in errors.

    Raises:
        InvalidInput: It is not the descriptor of an extension.
    """
    try:
        json.loads(blob, object_pairs_hook=_refuse_twice)
        return ExtensionDescriptor.model_validate_json(blob)
    except ValidationError as error:
        raise InvalidInput(explain(error, f"the descriptor in {source}"),
                           hint="The bundle may need a newer FuseML; compare `requires_fuseml`.") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the descriptor in {source} is not JSON of one meaning: {str(error)[:200]}") from None


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is written twice means two things to two readers; those that differ in case are two keys here."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found
