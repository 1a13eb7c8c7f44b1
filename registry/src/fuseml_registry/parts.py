"""Everything a registry is made of, put together from its configuration."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from fuseml_registry.access.accounts import Accounts
from fuseml_registry.access.gate import Gate
from fuseml_registry.access.login import Login
from fuseml_registry.access.permissions import Permissions
from fuseml_registry.access.token_api import TokenApi
from fuseml_registry.access.tokens import Tokens, signing_key
from fuseml_registry.audit import AuditLog
from fuseml_registry.blob_api import BlobApi
from fuseml_registry.collection.ownership import Ownership
from fuseml_registry.collection.sweep import Collector
from fuseml_registry.configuration import Configuration
from fuseml_registry.errors import RegistryError
from fuseml_registry.keeper import Keeper
from fuseml_registry.list_api import ListApi
from fuseml_registry.manifest_api import ManifestApi
from fuseml_registry.manifests import Manifests
from fuseml_registry.metrics import CONTENT_TYPE, Metrics
from fuseml_registry.referrers import Referrers
from fuseml_registry.routing import Route, route
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags
from fuseml_registry.upload_api import UploadApi
from fuseml_registry.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that an application is made of."""

    routes: list[Route]
    gate: Gate | None
    metrics: Metrics
    audit: AuditLog
    keeper: Keeper


def make_parts(config: Configuration) -> Parts:
    """Make the parts of a registry. Files in its directory that a crash left unfinished are removed."""
    storage = Storage(config.root)
    _clear_leftovers(storage)
    metrics = Metrics(config.root)
    audit = AuditLog(config.audit.file or config.root / "audit.jsonl", config.audit.record, config.audit.max_size,
                     config.audit.files)
    tags, referrers = Tags(storage, config.immutable_tags), Referrers(storage)
    uploads = Uploads(storage, config.upload_expiry, most=config.limits.uploads, largest=config.limits.blob)
    manifests = Manifests(storage, tags, referrers)
    collector = Collector(storage, manifests, uploads, config.collection)
    keeper = Keeper(config, collector, uploads, metrics, audit)
    gate, token_routes = _make_gate(config)
    figures = Figures(config, metrics, uploads, audit)
    blob, upload = BlobApi(storage), UploadApi(storage, uploads, gate)
    manifest, lists = ManifestApi(manifests, tags, referrers), ListApi(storage, tags, gate)
    routes = [
        route("version", r"/", GET=lists.ping),
        route("catalog", r"/_catalog", GET=lists.repositories),
        route("metrics", r"/_metrics", GET=figures.answer),
        *token_routes,
        route("tags", r"/(?P<name>.+)/tags/list", GET=lists.tags),
        route("referrers", r"/(?P<name>.+)/referrers/(?P<digest>[^/]+)", GET=manifest.referrers),
        route("manifests", r"/(?P<name>.+)/manifests/(?P<reference>[^/]+)",
              GET=manifest.read, PUT=manifest.write, DELETE=manifest.delete),
        route("uploads", r"/(?P<name>.+)/blobs/uploads/?", POST=upload.start),
        route("uploads", r"/(?P<name>.+)/blobs/uploads/(?P<session>[^/]+)",
              GET=upload.status, PATCH=upload.chunk, PUT=upload.finish, DELETE=upload.cancel),
        route("blobs", r"/(?P<name>.+)/blobs/(?P<digest>[^/]+)", GET=blob.read, DELETE=blob.delete),
    ]
    return Parts(routes, gate, metrics, audit, keeper)


def _clear_leftovers(storage: Storage) -> None:
    """Remove what a crash left, unless another process is at work here; the keeper then says so."""
    ownership = Ownership(storage.root)
    if ownership.take():
        storage.clear_leftovers()
        ownership.release()


def _make_gate(config: Configuration) -> tuple[Gate | None, list[Route]]:
    """The gate that authentication needs, and the route that gives tokens."""
    auth = config.auth
    if auth.method == "none" or auth.users is None:
        return None, []
    permissions = Permissions(config.access, anonymous_pull=auth.anonymous_pull)
    login = Login(Accounts(auth.users))
    if auth.method == "basic":
        return Gate(permissions, login, None, auth.service), []
    tokens = Tokens(signing_key(auth.signing_key or config.root / "token.key"), auth.service)
    answer = TokenApi(permissions, login, tokens, auth).answer
    return (Gate(permissions, login, tokens, auth.service, config.listen.external_url),
            [route("token", r"/_token", GET=answer, POST=answer)])


@dataclass(frozen=True, slots=True)
class Figures:
    """Answers with the metrics."""

    config: Configuration
    metrics: Metrics
    uploads: Uploads
    audit: AuditLog

    async def answer(self, request: Request, path: Mapping[str, str]) -> Response:  # noqa: ARG002
        """Answer GET from those who may read them."""
        if self.config.metrics == "off" or (self.config.metrics == "loopback" and not _is_local(request)):
            raise RegistryError(404, "UNSUPPORTED", "there are no metrics here")
        count = await asyncio.to_thread(self.uploads.count)
        return Response(self.metrics.text(count, self.audit.lost), media_type=CONTENT_TYPE)


def _is_local(request: Request) -> bool:
    """Whether a request comes from this machine; over a Unix socket it has no address."""
    if request.client is None:
        return True
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
