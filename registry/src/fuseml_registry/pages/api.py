"""The JSON form of the pages."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fuseml_registry.pages.answers import document
from fuseml_registry.pages.difference import difference
from fuseml_registry.pages.documents import Documents, search_document
from fuseml_registry.pages.links import Links
from fuseml_registry.pages.query import read_query, search
from fuseml_registry.pages.scanning import Scanner
from fuseml_registry.pages.visibility import VisibleSets


class Api:
    """Handlers below `/api/`."""

    def __init__(self, documents: Documents, scanner: Scanner, visible: VisibleSets) -> None:
        self._documents, self._scanner, self._visible = documents, scanner, visible

    def search(self, request: Request, links: Links) -> Response:
        """Packages, counted by facet; parameters as on the page."""
        index = self._scanner.index()
        found = search(index, read_query(request.query_params.multi_items()), self._visible.of(request, index))
        return document(search_document(found, links))

    def package(self, request: Request, links: Links, repository: str, version: str = "") -> Response:  # noqa: ARG002
        """Everything about a version of a package."""
        self._scanner.index()
        return document(self._documents.package(repository, version, links))

    def difference(self, request: Request, links: Links, repository: str, version: str,  # noqa: ARG002
                   old: str) -> Response:
        """What changed between two versions."""
        return document(difference(self._documents.bundle(repository, old)[0],
                                   self._documents.bundle(repository, version)[0]))
