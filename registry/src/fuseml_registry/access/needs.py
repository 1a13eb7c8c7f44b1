"""From a request to the permissions that it needs."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml_registry.access.identity import Need

_READ = frozenset({"GET", "HEAD"})
_PULL, _PUSH, _DELETE = frozenset({"pull"}), frozenset({"push"}), frozenset({"delete"})


def need_of(noun: str, method: str, path: Mapping[str, str]) -> Need | None:
    """Return what a request needs; None if anybody may send it.

    Args:
        noun: Of the route.
        method: HTTP method.
        path: What the path contains; `name` is not checked yet.
    """
    if noun in ("token", "metrics", "health"):
        return None
    if noun == "version":
        return Need(login=True)
    if noun == "catalog":
        return Need(catalog=True)
    name = path["name"]
    if noun == "uploads":
        return Need({name: _PUSH})  # a mount falls back to an upload when the source may not be read
    if method in _READ:
        return Need({name: _PULL})
    return Need({name: _DELETE if method == "DELETE" else _PUSH})
