"""The pages themselves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from fuseml_oci.bundles.descriptor import MAX_LAYER
from fuseml_registry.pages import answers
from fuseml_registry.pages.attachments import find, table
from fuseml_registry.pages.difference import difference
from fuseml_registry.pages.documents import Documents
from fuseml_registry.pages.links import Links
from fuseml_registry.pages.query import read_query, search
from fuseml_registry.pages.readme import render
from fuseml_registry.pages.rendering import Renderer
from fuseml_registry.pages.scanning import Scanner
from fuseml_registry.pages.source import StorageSource
from fuseml_registry.pages.visibility import VisibleSets
from fuseml_sdk.errors import InvalidInput, NotFound

#: Rendered READMEs that are kept, and characters that they may have together.
_KEPT, _KEPT_SIZE = 64, 8 << 20
#: Versions on one page of them.
_VERSIONS_PAGE = 100


class Views:
    """Handlers of pages; each returns HTML."""

    def __init__(self, documents: Documents, scanner: Scanner, renderer: Renderer, visible: VisibleSets) -> None:
        self._documents, self._scanner, self._renderer, self._visible = documents, scanner, renderer, visible
        self._readmes: OrderedDict[tuple[str, str], tuple[Markup, str]] = OrderedDict()
        self._lock = threading.Lock()

    def search(self, request: Request, links: Links) -> Response:
        """Packages with facets, in pages."""
        index = self._scanner.index()
        visible = self._visible.of(request, index)
        found = search(index, read_query(request.query_params.multi_items()), visible)
        return answers.page(self._renderer.render("search.html", links, found=found, count=visible.bit_count()))

    def package(self, request: Request, links: Links, repository: str, version: str = "") -> Response:  # noqa: ARG002
        """A package, or one version of it."""
        self._scanner.index()
        about = self._documents.package(repository, version, links)
        readme, note = self._readme(about)
        return answers.page(self._renderer.render(
            "package.html", links, about=about, description=render(about["description"].encode())[0], readme=readme,
            readme_note=note, pinned=bool(version),
            previous=self._documents.previous(repository, about["version"])))

    def versions(self, request: Request, links: Links, repository: str) -> Response:
        """All versions of a package."""
        self._scanner.index()
        current = self._documents.current(repository)
        bundle, _ = self._documents.bundle(repository, current.version)
        versions = self._documents.versions(repository)
        pages = max(1, -(-len(versions) // _VERSIONS_PAGE))
        asked = request.query_params.get("page", "1")
        page = min(max(int(asked[:6]), 1), pages) if asked.isascii() and asked.isdigit() else 1
        shown = versions[(page - 1) * _VERSIONS_PAGE:page * _VERSIONS_PAGE]
        return answers.page(self._renderer.render(
            "versions.html", links, name=bundle.descriptor.name, repository=repository, versions=shown,
            total=len(versions), page=page, pages=pages))

    def difference(self, request: Request, links: Links, repository: str, version: str,  # noqa: ARG002
                   old: str) -> Response:
        """What changed between two versions."""
        new_bundle, _ = self._documents.bundle(repository, version)
        old_bundle, _ = self._documents.bundle(repository, old)
        return answers.page(self._renderer.render(
            "difference.html", links, name=new_bundle.descriptor.name, repository=repository,
            changed=difference(old_bundle, new_bundle)))

    def attachment(self, request: Request, links: Links, repository: str, version: str,  # noqa: ARG002
                   digest: str) -> Response:
        """A bill of materials, provenance or results, as a table."""
        bundle, _ = self._documents.bundle(repository, version)
        source = StorageSource(self._documents.holdings, repository)
        about = find(source, bundle.digest, digest)
        problem = ""
        try:
            rows = table(source, about)
        except InvalidInput as error:
            rows, problem = {"caption": "", "columns": [], "rows": [], "total": 0}, error.message
        return answers.page(self._renderer.render(
            "attachment.html", links, name=bundle.descriptor.name, repository=repository, version=version,
            about=about, table=rows, problem=problem))

    def error(self, status: int, message: str, links: Links) -> Response:
        """A page that says what is wrong."""
        return answers.page(self._renderer.render("error.html", links, status=status, message=message), status)

    def _readme(self, about: dict[str, Any]) -> tuple[Markup, str]:
        layer = next((layer for layer in about["layers"] if layer["kind"] == "readme"), None)
        if layer is None:
            return Markup(), ""
        key = (layer["digest"], about["name"])
        with self._lock:
            if key in self._readmes:
                self._readmes.move_to_end(key)
                return self._readmes[key]
        try:
            data = self._documents.holdings.blob(about["repository"], layer["digest"], MAX_LAYER["readme"])
        except (InvalidInput, NotFound) as error:
            return Markup(), f"The README cannot be read: {error.message}."
        rendered = render(data, name=about["name"])
        with self._lock:
            self._readmes[key] = rendered
            while len(self._readmes) > _KEPT or sum(len(html) for html, _ in self._readmes.values()) > _KEPT_SIZE:
                self._readmes.popitem(last=False)
        return rendered
