"""Reading and deleting blobs (end-2, end-10)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from fuseml_registry import checks
from fuseml_registry.errors import RegistryError, blob_unknown
from fuseml_registry.ranges import Unsatisfiable, read_range
from fuseml_registry.storage import Storage
from fuseml_registry.streams import FileAnswer

#: Content never changes under a digest.
CACHE_CONTROL = "private, max-age=31536000, immutable"


class BlobApi:
    """Handlers for `/<name>/blobs/<digest>`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def read(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer GET and HEAD, whole or a range (end-2)."""
        name, digest = checks.repository(path["name"]), checks.digest(path["digest"])
        file, size = await asyncio.to_thread(self._find, name, digest)
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest,
                   "ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Cache-Control": CACHE_CONTROL}
        head = request.method == "HEAD"
        try:
            span = None if head else read_range(request.headers.get("Range", ""), size)
        except Unsatisfiable:
            raise RegistryError(416, "SIZE_INVALID", f"{digest} has {size} bytes",
                                headers={"Content-Range": f"bytes */{size}"}) from None
        if span is None:
            return FileAnswer(file, 200, headers, (0, size), head=head)
        headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
        return FileAnswer(file, 206, headers, span, head=False)

    async def delete(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer DELETE: the repository no longer holds the blob (end-10)."""
        name, digest = checks.repository(path["name"]), checks.digest(path["digest"])
        link = self._storage.link_path(name, "_blobs", digest)
        if not await asyncio.to_thread(self._storage.remove, link):
            raise blob_unknown(name, digest)
        return Response(status_code=202)

    def _find(self, name: str, digest: str) -> tuple[Path, int]:
        path = self._storage.blob_path(digest)
        try:
            if self._storage.renew(name, "_blobs", digest):
                return path, path.stat().st_size
        except FileNotFoundError:
            pass
        raise blob_unknown(name, digest)
