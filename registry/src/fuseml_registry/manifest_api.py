"""Reading, writing and deleting manifests and tags (end-3, 7, 9) and listing referrers (end-12)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from fuseml_oci import media
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import is_digest
from fuseml_registry import checks
from fuseml_registry.manifests import MAX_MANIFEST, Manifests
from fuseml_registry.referrers import Referrers
from fuseml_registry.routing import PREFIX
from fuseml_registry.streams import FileAnswer, small_body
from fuseml_registry.tags import Tags


class ManifestApi:
    """Handlers for `/<name>/manifests/<reference>` and `/<name>/referrers/<digest>`."""

    def __init__(self, manifests: Manifests, tags: Tags, referrers: Referrers) -> None:
        self._manifests, self._tags, self._referrers = manifests, tags, referrers

    async def read(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer GET and HEAD with the exact bytes (end-3)."""
        name, reference = checks.repository(path["name"]), checks.reference(path["reference"])
        stored = await asyncio.to_thread(self._manifests.get, name, reference)
        headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": stored.digest,
                   "ETag": f'"{stored.digest}"'}
        size = stored.path.stat().st_size
        return FileAnswer(stored.path, 200, headers, (0, size), head=request.method == "HEAD")

    async def write(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer PUT by tag or digest, with further tags as `?tag=` (end-7)."""
        name, reference = checks.repository(path["name"]), checks.reference(path["reference"])
        tags = [checks.tag(tag) for tag in request.query_params.getlist("tag")]
        data = await small_body(request, MAX_MANIFEST)
        content_type = request.headers.get("Content-Type", "")
        stored = await asyncio.to_thread(self._manifests.put, name, reference, tags, data, content_type)
        response = Response(status_code=201, headers={
            "Location": f"{PREFIX}/{name}/manifests/{stored.digest}", "Docker-Content-Digest": stored.digest})
        if stored.subject:
            response.headers["OCI-Subject"] = stored.subject
        for tag in tags:
            response.headers.append("OCI-Tag", tag)
        return response

    async def delete(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer DELETE: of a tag, or of a manifest with all its tags (end-9)."""
        name, reference = checks.repository(path["name"]), checks.reference(path["reference"])
        remove = self._manifests.delete if is_digest(reference) else self._tags.delete
        await asyncio.to_thread(remove, name, reference)
        return Response(status_code=202)

    async def referrers(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer GET with an index of the manifests whose subject this is, empty if there are none (end-12)."""
        name, digest = checks.repository(path["name"]), checks.digest(path["digest"])
        wanted, last = request.query_params.get("artifactType", ""), request.query_params.get("last", "")
        index, following = await asyncio.to_thread(self._referrers.listed, name, digest, wanted, last)
        response = Response(canonical_json(index), 200, media_type=media.INDEX)
        if wanted:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        if following:
            query = urlencode({"last": following} | ({"artifactType": wanted} if wanted else {}))
            response.headers["Link"] = f'<{PREFIX}/{name}/referrers/{digest}?{query}>; rel="next"'
        return response
