"""Looking after extensions: compare, verify, export, import, examine, clean up."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from fuseml_core.api.progress import streamed
from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.care import ExtensionCare
from fuseml_core.service.extensions.care_ports import Admission, Target
from fuseml_core.service.extensions.ports import Wish

router = APIRouter(tags=["extensions"])
#: Bytes of an archive that one request may bring.
MOST_AT_ONCE = 32 << 20


class ExportRequest(BaseModel):
    """What to export, and for which machine."""

    references: list[str] = Field(default_factory=list, max_length=200,
                                  description="names or references; empty: all that is installed")
    platform: str = Field("", max_length=60, description="such as `linux-x86_64`; empty: like this machine")
    python: str = Field("", max_length=20, description="minor version such as `3.12`; empty: the server's")
    channel: str = Field("", max_length=60, description="of catalogs; empty: the one they prefer")
    prereleases: bool = False


class ImportRequest(BaseModel):
    """How to let an archive in."""

    keys: list[Annotated[str, Field(max_length=10_000)]] = Field(
        default_factory=list, max_length=20, description="public keys in PEM that are trusted for it")
    allow_unsigned: bool = Field(False, description="take what nobody known signed, too")
    install: bool = Field(True, description="install what somebody asked for when the archive was made")


class VerifyRequest(BaseModel):
    """What to verify."""

    names: list[str] = Field(default_factory=list, max_length=1000, description="empty: all that is installed")
    repair: bool = Field(False, description="fetch, unpack and build again what is wrong")
    offline: bool = Field(False, description="ask no other registry than the server's own")


class ExaminationRequest(BaseModel):
    """What to examine."""

    only: list[str] = Field(default_factory=list, max_length=100, description="ids of checks; empty: all")
    fix: bool = Field(False, description="do what cannot do harm")


class CollectionRequest(BaseModel):
    """What to collect."""

    dry_run: bool = Field(True, description="only tell")
    older_than: float = Field(604_800.0, ge=0, description="seconds since the last use")
    only: list[str] = Field(default_factory=list, max_length=100, description="kinds; empty: all")
    keep: int | None = Field(None, ge=1, le=1000, description="generations to keep; empty: as the server is set")


@router.get("/extension-difference")
def diff_extensions(request: Request, before: Annotated[str, Query(min_length=1, max_length=1000)],
                    after: Annotated[str, Query(max_length=1000)] = "", channel: str = "",
                    offline: bool = False) -> dict[str, Any]:
    """Compare two generations or bundles, or what is installed with what is available."""
    return _care(request).differ.diff(before, after, Wish(channel=channel, offline=offline))


@router.post("/extension-verification", response_class=StreamingResponse)
def verify_extensions(request: Request, wanted: VerifyRequest) -> StreamingResponse:
    """Verify what is installed; answers lines of JSON: progress, then the result or a problem document."""
    care = _care(request)
    return streamed("verification", lambda say: {"result": care.verifier.verify(
        wanted.names, repair=wanted.repair, offline=wanted.offline, progress=say)})


@router.post("/extension-examination")
def examine(request: Request, wanted: ExaminationRequest) -> dict[str, Any]:
    """Check the machine, the server and what is installed."""
    return _care(request).doctor.examine(fix=wanted.fix, only=wanted.only)


@router.post("/extension-collection", response_class=StreamingResponse)
def collect(request: Request, wanted: CollectionRequest) -> StreamingResponse:
    """Find what nothing needs, and remove it unless `dry_run`; answers lines of JSON."""
    care = _care(request)
    return streamed("collection", lambda say: {"result": care.collector(wanted.keep).collect(
        dry_run=wanted.dry_run, older_than=wanted.older_than, only=wanted.only, progress=say)})


@router.post("/extension-exports", response_class=StreamingResponse)
def export(request: Request, wanted: ExportRequest) -> StreamingResponse:
    """Gather extensions for a machine without a network; answers lines of JSON: progress, then the id of the archive.

    What was fetched is kept, so that the same request goes on where an interrupted one ended.
    """
    care = _care(request)
    return streamed("export", lambda say: {"result": care.exporter.export(
        wanted.references, Target(wanted.platform, wanted.python),
        Wish(channel=wanted.channel, prereleases=wanted.prereleases), say)})


@router.get("/extension-exports/{identifier}", response_class=StreamingResponse)
def download_export(request: Request, identifier: str) -> StreamingResponse:
    """The archive: an OCI image layout as an uncompressed tar file."""
    size, pieces = _care(request).exports.open(identifier)
    return StreamingResponse(pieces, media_type="application/x-tar", headers={"Content-Length": str(size)})


@router.get("/extension-imports/{digest}")
def get_import(request: Request, digest: str) -> dict[str, int]:
    """How many bytes are here of the archive with this SHA-256 digest."""
    return {"received": _care(request).importer.received(digest)}


@router.patch("/extension-imports/{digest}")
async def receive_import(request: Request, digest: str, offset: Annotated[int, Query(ge=0)]) -> dict[str, int]:
    """Append the body to the archive; `offset` must be where it ends."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MOST_AT_ONCE:
            raise Invalid(f"at most {MOST_AT_ONCE} bytes can be sent at once")
    importer = _care(request).importer
    return {"received": await anyio.to_thread.run_sync(importer.receive, digest, offset, bytes(data))}


@router.post("/extension-imports/{digest}", response_class=StreamingResponse)
def take_in(request: Request, digest: str, wanted: ImportRequest) -> StreamingResponse:
    """Verify and judge the archive, put what it holds into the registry, and install it; answers lines of JSON.

    It goes on when the client goes away.
    """
    importer = _care(request).importer
    terms = Admission(tuple(wanted.keys), wanted.allow_unsigned)
    return streamed("import", lambda say: {
        "result": importer.take_in(digest, terms, install=wanted.install, progress=say)})


def _care(request: Request) -> ExtensionCare:
    care: ExtensionCare = request.app.state.application.care
    return care
