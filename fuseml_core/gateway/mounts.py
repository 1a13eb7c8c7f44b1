"""HTTP applications of plugins that run inside the data process: git, the registry, and whoever announces one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import importlib_metadata

from fuseml_core import __version__
from fuseml_core.gateway.asgi import ASGIApp
from fuseml_core.gateway.lifespans import lifespan

log = logging.getLogger(__name__)

#: The entry point's name is the path prefix; its value a factory `create_app(config: dict) -> ASGI application`.
ENTRY_POINT_GROUP = "fuseml.http"
#: Names of the directories below FUSEML_HOME where they differ from the prefix.
ROOTS = {"v2": "registry", "marketplace": "registry"}


@dataclass(frozen=True, slots=True)
class Mount:
    """One application, or the reason why it is not there."""

    prefix: str
    app: ASGIApp | None
    error: str = ""


def load_mounts(home: Path) -> dict[str, Mount]:
    """Make the application of every entry point; one that fails is kept with its error and hurts nobody else.

    Args:
        home: FUSEML_HOME. An application gets `root` (`<home>/<its directory>`), `prefix` (`/<its prefix>`), `engine`
            (version of this server) and `keys` (directory of public keys that the server knows).

    Returns:
        Mounts by prefix, without slashes.
    """
    mounts = {}
    for point in importlib_metadata.entry_points(group=ENTRY_POINT_GROUP):
        root = home / ROOTS.get(point.name, point.name)
        try:
            mounts[point.name] = Mount(point.name, point.load()(
                {"root": str(root), "prefix": f"/{point.name}", "engine": __version__, "keys": str(home / "keys")}))
        except Exception as error:
            log.exception("the application /%s of %s cannot be used", point.name, point.value)
            mounts[point.name] = Mount(point.name, None, f"{type(error).__name__}: {error}")
    return mounts


@contextlib.asynccontextmanager
async def running(mounts: dict[str, Mount]) -> AsyncIterator[None]:
    """Run the start and the end of every application's life around the block."""
    async with contextlib.AsyncExitStack() as stack:
        for mount in mounts.values():
            if mount.app:
                await stack.enter_async_context(lifespan(mount.app))
        yield
