"""The published language of FuseML: what plugins, the core, registries and runnables say to each other.

A plugin author needs three names from here: :data:`hookimpl` to mark hook implementations, the types in
:mod:`fuseml_sdk.types` that hooks take and return, and the errors in :mod:`fuseml_sdk.errors` that tell the
caller what to do next.
"""

from __future__ import annotations

import pluggy

__version__ = "0.1.0"

#: Name of the pluggy project; hookspecs and hookimpls of FuseML carry it.
PROJECT = "fuseml"

#: Entry-point group under which distributions announce plugin objects.
ENTRY_POINT_GROUP = "fuseml.plugins"

#: Marks a method or function as the implementation of a FuseML hook.
hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = ["ENTRY_POINT_GROUP", "PROJECT", "__version__", "hookimpl"]
