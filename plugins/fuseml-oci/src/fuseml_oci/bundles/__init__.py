"""Bundles: extensions packaged as OCI artifacts, built, validated, moved and unpacked.

The manifest's config blob is the full :class:`~fuseml_oci.bundles.descriptor.ExtensionDescriptor`, so listing,
searching and resolving need two small blobs and unpack nothing. Layers are uncompressed deterministic tar files,
one for each kind of content, and one stored wheel each, so the same source has the same digest everywhere and
versions share what did not change.
"""

from __future__ import annotations

from fuseml_oci.bundles.build import BuiltBundle, build
from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.bundles.layout import Layout, open_layout, write
from fuseml_oci.bundles.transfer import PulledBundle, inspect, pull, push
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.bundles.wheel_cache import WheelCache

__all__ = ["BuiltBundle", "ExtensionDescriptor", "Layout", "PulledBundle", "WheelCache", "build", "inspect",
           "open_layout", "pull", "push", "unpack", "write"]
