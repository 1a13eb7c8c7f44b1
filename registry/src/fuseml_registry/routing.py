"""From a path to a handler. Repository names contain slashes, so paths are read from their end."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Scope

from fuseml_registry.errors import RegistryError

#: Takes the request and what the path contains.
Handler = Callable[[Request, Mapping[str, str]], Awaitable[ASGIApp]]
#: Where clients find a registry; part of the protocol, whatever the application is mounted in.
PREFIX = "/v2"


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern of paths, what they are called in metrics and rules, and the handler for each method."""

    noun: str
    pattern: re.Pattern[str]
    handlers: Mapping[str, Handler]


def route(noun: str, pattern: str, **handlers: Handler) -> Route:
    """Make a route; keywords are methods. GET without HEAD serves HEAD too."""
    if "GET" in handlers:
        handlers.setdefault("HEAD", handlers["GET"])
    return Route(noun, re.compile(pattern), handlers)


def local_path(scope: Scope) -> str:
    """Return the path below the place where the application is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root):]
    return str(path) or "/"


def find(routes: list[Route], scope: Scope) -> tuple[Route, Mapping[str, str]]:
    """Return the route, which has a handler for the method, and what the path contains.

    Raises:
        RegistryError: 404 for an unknown path, 405 for an unknown method.
    """
    path = local_path(scope)
    for candidate in routes:
        if match := candidate.pattern.fullmatch(path):
            if scope["method"] not in candidate.handlers:
                allowed = ", ".join(sorted(candidate.handlers))
                raise RegistryError(405, "UNSUPPORTED", f"{scope['method']} is not supported here; use {allowed}",
                                    headers={"Allow": allowed})
            return candidate, match.groupdict()
    raise RegistryError(404, "NAME_UNKNOWN", f"{(PREFIX + path)[:300]!r} is not a path of the distribution protocol")
