"""The registry as an ASGI application (OCI distribution-spec 1.1 and the current draft)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fuseml_registry.blob_api import BlobApi
from fuseml_registry.errors import RegistryError
from fuseml_registry.list_api import ListApi
from fuseml_registry.manifest_api import ManifestApi
from fuseml_registry.manifests import Manifests
from fuseml_registry.referrers import Referrers
from fuseml_registry.routing import PREFIX, Route, find, route
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags
from fuseml_registry.upload_api import UploadApi
from fuseml_registry.uploads import EXPIRY, Uploads


class RegistryApp:
    """Dispatches requests below `/v2` and turns errors into answers."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", []), (b"docker-distribution-api-version", b"registry/2.0")]
                message = {**message, "headers": headers}
            await send(message)

        request = Request(scope, receive)
        try:
            handler, path = find(self._routes, scope)
            answer: ASGIApp = await handler(request, path)
            await answer(scope, receive, tagged)
        except ClientDisconnect:
            return
        except RegistryError as error:
            if started:
                raise
            await error.response()(scope, receive, tagged)


def create_app(config: Mapping[str, Any]) -> RegistryApp:
    """Make the application that is mounted at `/v2`.

    Args:
        config: `root`: directory for everything the registry keeps. `upload_expiry`: seconds without a byte after
            which an unfinished upload is forgotten (default: a day).
    """
    storage = Storage(Path(config["root"]))
    tags, referrers = Tags(storage), Referrers(storage)
    uploads = Uploads(storage, float(config.get("upload_expiry", EXPIRY)))
    blob, upload = BlobApi(storage), UploadApi(storage, uploads)
    manifest, lists = ManifestApi(Manifests(storage, tags, referrers), tags, referrers), ListApi(storage, tags)
    return RegistryApp([
        route(r"/", GET=lists.ping),
        route(r"/_catalog", GET=lists.repositories),
        route(r"/(?P<name>.+)/tags/list", GET=lists.tags),
        route(r"/(?P<name>.+)/referrers/(?P<digest>[^/]+)", GET=manifest.referrers),
        route(r"/(?P<name>.+)/manifests/(?P<reference>[^/]+)",
              GET=manifest.read, PUT=manifest.write, DELETE=manifest.delete),
        route(r"/(?P<name>.+)/blobs/uploads/?", POST=upload.start),
        route(r"/(?P<name>.+)/blobs/uploads/(?P<session>[^/]+)",
              GET=upload.status, PATCH=upload.chunk, PUT=upload.finish, DELETE=upload.cancel),
        route(r"/(?P<name>.+)/blobs/(?P<digest>[^/]+)", GET=blob.read, DELETE=blob.delete),
    ])


def standalone_app(config: Mapping[str, Any]) -> Starlette:
    """Make an application that is a registry and nothing else, for a server of its own; `config` as above."""
    return Starlette(routes=[Mount(PREFIX, app=create_app(config))])
