"""The published language of FuseML: what plugins, the core, registries and runnables say to each other.

A plugin author needs three names from here: :data:`hookimpl` to mark hook implementations, the types in
:mod:`fuseml_sdk.types` that hooks take and return, and the errors in :mod:`fuseml_sdk.errors` that tell the
caller what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pluggy

__version__ = "0.1.0"

#: Name of the pluggy project; hookspecs and hookimpls of FuseML carry it.
PROJECT = "fuseml"

#: Entry-point group under which distributions announce plugin objects.
ENTRY_POINT_GROUP = "fuseml.plugins"

if TYPE_CHECKING:
    #: Marks a method or function as the implementation of a FuseML hook.
    hookimpl = pluggy.HookimplMarker(PROJECT)


def __getattr__(name: str) -> Any:
    """Import pluggy only for those who mark hooks: supervisors of workloads start without it (PEP 562)."""
    if name != "hookimpl":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pluggy import HookimplMarker

    globals()["hookimpl"] = marker = HookimplMarker(PROJECT)
    return marker


__all__ = ["ENTRY_POINT_GROUP", "PROJECT", "__version__", "hookimpl"]
