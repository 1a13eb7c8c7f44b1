"""Uploading blobs: in one request, in chunks, or by mounting (end-4, 5, 6, 11, 13, 14)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from fuseml_oci.digests import HEX_LENGTH
from fuseml_registry import checks
from fuseml_registry.access.gate import Gate
from fuseml_registry.access.identity import SCOPE_KEY, Identity
from fuseml_registry.errors import RegistryError, digest_invalid
from fuseml_registry.ranges import chunk_range
from fuseml_registry.routing import PREFIX
from fuseml_registry.storage import Storage
from fuseml_registry.streams import feed
from fuseml_registry.uploads import Session, Uploads


class UploadApi:
    """Handlers for `/<name>/blobs/uploads/…`."""

    def __init__(self, storage: Storage, uploads: Uploads, gate: Gate | None = None) -> None:
        self._storage, self._uploads, self._gate = storage, uploads, gate

    async def start(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer POST: open a session (end-4a, 4c), take a whole blob (end-4b) or mount one (end-11)."""
        name, query = checks.repository(path["name"]), request.query_params
        if "mount" in query and await self._mount(request, name, checks.digest(query["mount"])):
            return _created(name, query["mount"])
        digest = checks.digest(query["digest"]) if "digest" in query else ""
        algorithm = digest.partition(":")[0] or query.get("digest-algorithm", "sha256")
        if algorithm not in HEX_LENGTH:
            raise digest_invalid(f"digest algorithm {algorithm[:40]!r} is not supported; use sha256 or sha512")
        session = await asyncio.to_thread(self._uploads.start, name, algorithm)
        if not digest:
            return _state(session, 202)
        try:
            with _held(session):
                await self._receive(request, session)
                await asyncio.to_thread(self._uploads.finish, session, digest)
        finally:
            await asyncio.to_thread(self._uploads.cancel, session)
        return _created(name, digest)

    async def status(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer GET: how many bytes have arrived (end-13)."""
        return _state(await self._session(path), 204)

    async def chunk(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer PATCH: add bytes at the end (end-5). What arrives before a broken connection is kept."""
        session = await self._session(path)
        with _held(session):
            before = session.offset
            expected = _expected(request, session)
            received = await self._receive(request, session)
            if expected is not None and received != expected:
                await asyncio.to_thread(self._uploads.roll_back, session, before)
                raise RegistryError(400, "SIZE_INVALID", f"the chunk has {received} bytes, its Content-Range says "
                                    f"{expected}")
        return _state(session, 202)

    async def finish(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer PUT: add the last bytes, if any, and make the blob (end-6)."""
        session = await self._session(path)
        digest = checks.digest(request.query_params.get("digest", ""))
        with _held(session):
            before = session.offset
            try:
                expected = _expected(request, session)
                received = await self._receive(request, session)
                if expected is not None and received != expected:
                    raise RegistryError(400, "SIZE_INVALID", f"the last chunk has {received} bytes, its "
                                        f"Content-Range says {expected}")
                await asyncio.to_thread(self._uploads.finish, session, digest)
            except BaseException:
                # So that the same request can be sent again.
                await asyncio.shield(asyncio.to_thread(self._uploads.roll_back, session, before))
                raise
        return _created(session.name, digest)

    async def cancel(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer DELETE: forget the session (end-14)."""
        session = await self._session(path)
        with _held(session):
            await asyncio.to_thread(self._uploads.cancel, session)
        return Response(status_code=204)

    async def _receive(self, request: Request, session: Session) -> int:
        return await feed(request, lambda data: self._uploads.append(session, data))

    async def _session(self, path: Mapping[str, str]) -> Session:
        return await asyncio.to_thread(self._uploads.get, checks.repository(path["name"]), path["session"])

    async def _mount(self, request: Request, name: str, digest: str) -> bool:
        """Link a blob of another repository; without `from`, of any (anonymous mount). False if there is none."""
        source = request.query_params.get("from")
        identity = request.scope.get(SCOPE_KEY)

        def mount() -> bool:
            if not source and self._gate is None:
                return self._storage.share_blob(name, digest)
            candidates = [checks.repository(source)] if source else self._storage.holders()
            for candidate in candidates:
                # One may not get a blob by naming its digest without being allowed to pull it.
                if self._gate and not self._gate.may(identity or Identity(), "pull", candidate):
                    continue
                if self._storage.link_path(candidate, "_blobs", digest).exists():
                    return self._storage.share_blob(name, digest)
            return False

        return await asyncio.to_thread(mount)


@contextmanager
def _held(session: Session) -> Iterator[None]:
    """Let one request at a time add to a session."""
    if not session.busy.acquire(blocking=False):
        raise RegistryError(409, "BLOB_UPLOAD_INVALID", "another request is adding to this upload session")
    try:
        yield
    finally:
        session.busy.release()


def _expected(request: Request, session: Session) -> int | None:
    """Bytes that Content-Range announces; None without the header.

    Raises:
        RegistryError: 416 if the chunk does not begin where the last one ended, 400 if the header is malformed.
    """
    header = request.headers.get("Content-Range")
    if header is None:
        return None
    span = chunk_range(header)
    if span is None:
        raise RegistryError(400, "BLOB_UPLOAD_INVALID", f"Content-Range {header[:80]!r} is not <first>-<last>")
    if span[0] != session.offset:
        raise RegistryError(416, "BLOB_UPLOAD_INVALID", f"the next byte must be number {session.offset}",
                            headers=_headers(session))
    return span[1] - span[0] + 1


def _headers(session: Session) -> dict[str, str]:
    return {"Location": f"{PREFIX}/{session.name}/blobs/uploads/{session.key}",
            "Range": f"0-{max(session.offset - 1, 0)}", "Docker-Upload-UUID": session.key}


def _state(session: Session, status: int) -> Response:
    return Response(status_code=status, headers=_headers(session))


def _created(name: str, digest: str) -> Response:
    return Response(status_code=201, headers={"Location": f"{PREFIX}/{name}/blobs/{digest}",
                                              "Docker-Content-Digest": digest})
