"""Which address is answered by what."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fuseml_registry.pages import answers
from fuseml_registry.pages.api import Api
from fuseml_registry.pages.catalogs import Catalogs
from fuseml_registry.pages.documents import Documents
from fuseml_registry.pages.files import Files
from fuseml_registry.pages.holdings import Holdings
from fuseml_registry.pages.links import Links
from fuseml_registry.pages.rendering import Renderer
from fuseml_registry.pages.scanning import Scanner
from fuseml_registry.pages.views import Views
from fuseml_registry.pages.visibility import VisibleSets, may_see
from fuseml_registry.routing import local_path
from fuseml_registry.storage import Storage
from fuseml_sdk.errors import InvalidInput, NotFound

log = logging.getLogger(__name__)

#: Answers a request; called in a thread, with what the path contains.
Handler = Callable[..., Response]
_REPOSITORY = r"(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
_VERSION = r"(?P<version>[0-9][0-9A-Za-z.-]{0,127})"
_DIGEST = r"(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
#: Longest path that is looked at; a longer one cannot name anything.
_MAX_PATH = 1000


class Routes:
    """Dispatches requests to handlers, each in a thread of the pages' own.

    Args:
        table: Pattern of a path below the application, and its handler.
        views: Makes the pages for errors.
        embedded: Whether a FuseML server has the registry built in.
        external_url: Scheme and host for whoever comes through a proxy; empty takes those of the request.
        pool: Where handlers run.
    """

    def __init__(self, table: list[tuple[str, Handler]], views: Views, embedded: bool, external_url: str,
                 pool: Executor) -> None:
        self._table = [(re.compile(pattern), handler) for pattern, handler in table]
        self._views, self._embedded, self._pool = views, embedded, pool
        self._external_url = external_url.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        response = await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, Request(scope))
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        path, links = local_path(request.scope), self._links(request)
        if request.method not in ("GET", "HEAD"):
            response = answers.problem(405, f"{request.method} is not supported here; use GET")
            response.headers["Allow"] = "GET, HEAD"
            return response
        if path == "/" and not request.scope["path"].endswith("/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{links.search()}{query}", 308, answers.HEADERS)
        is_api = path.startswith("/api/")
        try:
            for pattern, handler in self._table if len(path) <= _MAX_PATH else ():
                if match := pattern.fullmatch(path):
                    found = match.groupdict()
                    if "repository" in found and not may_see(request, found["repository"]):
                        raise NotFound("There is no such page")
                    return handler(request, links, **found)
            raise NotFound("There is no such page")
        except NotFound as error:
            return answers.problem(404, error.message) if is_api else self._views.error(404, error.message, links)
        except InvalidInput as error:
            return answers.problem(422, error.message, error.hint) if is_api \
                else self._views.error(422, error.message, links)
        except Exception:
            log.exception("the page %s cannot be made", path[:200])
            message = "The server could not make this page; its log says why"
            return answers.problem(500, message) if is_api else self._views.error(500, message, links)

    def _links(self, request: Request) -> Links:
        base = str(request.scope.get("root_path", "")).rstrip("/")
        origin = self._external_url or f"{request.url.scheme}://{request.url.netloc}"
        return Links(base, origin, self._embedded)


def make_routes(storage: Storage, engine: str, keys: Path | None, external_url: str, pool: Executor) -> ASGIApp:
    """Put the application together; see `app.create_app` for the arguments."""
    holdings = Holdings(storage)
    catalogs = Catalogs(holdings, keys)
    scanner = Scanner(holdings, catalogs, engine)
    documents, renderer = Documents(holdings, catalogs, engine, keys), Renderer(engine)
    visible = VisibleSets()
    views = Views(documents, scanner, renderer, visible)
    api, files = Api(documents, scanner, visible), Files(documents, renderer)
    package, version = rf"/packages/{_REPOSITORY}", rf"/packages/{_REPOSITORY}/-/{_VERSION}"
    return Routes([
        (r"/", views.search),
        (package, views.package),
        (rf"{package}/-/versions", views.versions),
        (rf"{package}/-/feed\.atom", files.feed),
        (version, views.package),
        (rf"{version}/diff/(?P<old>[0-9][0-9A-Za-z.-]{{0,127}})", views.difference),
        (rf"{version}/attachments/{_DIGEST}", views.attachment),
        (rf"{version}/attachments/{_DIGEST}/(?P<number>\d{{1,2}})", files.attachment),
        (rf"{version}/icon", files.icon),
        (rf"{version}/readme", files.readme),
        (r"/static/(?P<name>[a-z0-9.-]+)", files.static),
        (r"/api/search", api.search),
        (rf"/api/packages/{_REPOSITORY}", api.package),
        (rf"/api/packages/{_REPOSITORY}/-/{_VERSION}", api.package),
        (rf"/api/packages/{_REPOSITORY}/-/{_VERSION}/diff/(?P<old>[0-9][0-9A-Za-z.-]{{0,127}})", api.difference),
    ], views, bool(engine), external_url, pool)
