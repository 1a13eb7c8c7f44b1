"""What is not a page: icons, feeds, documents to save, style sheet and script."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from fuseml_oci.bundles.descriptor import ICON_TYPES, MAX_LAYER
from fuseml_registry.pages import answers
from fuseml_registry.pages.attachments import find
from fuseml_registry.pages.documents import Documents
from fuseml_registry.pages.feed import atom
from fuseml_registry.pages.links import Links
from fuseml_registry.pages.rendering import Renderer
from fuseml_registry.pages.source import StorageSource
from fuseml_sdk.errors import NotFound


class Files:
    """Handlers of what pages load or offer for download."""

    def __init__(self, documents: Documents, renderer: Renderer) -> None:
        self._documents, self._static = documents, renderer.static

    def static(self, request: Request, links: Links, name: str) -> Response:  # noqa: ARG002
        """A file of the application itself; its name changes with its contents."""
        if name not in self._static:
            raise NotFound("There is no such file")
        file = self._static[name]
        return Response(file.data, 200, {**answers.HEADERS, "Cache-Control": answers.FOREVER}, file.media_type)

    def icon(self, request: Request, links: Links, repository: str, version: str) -> Response:  # noqa: ARG002
        """The picture of a bundle; scripts in it never run."""
        bundle, _ = self._documents.bundle(repository, version)
        layer = bundle.layer("icon")
        if layer is None or layer.media_type not in ICON_TYPES.values():
            raise NotFound(f"{repository} {version} has no icon")
        data = self._documents.holdings.blob(repository, layer.digest, MAX_LAYER["icon"])
        return answers.foreign(data, layer.media_type)

    def readme(self, request: Request, links: Links, repository: str, version: str) -> Response:  # noqa: ARG002
        """The README as it was written."""
        bundle, _ = self._documents.bundle(repository, version)
        layer = bundle.layer("readme")
        if layer is None:
            raise NotFound(f"{repository} {version} has no README")
        data = self._documents.holdings.blob(repository, layer.digest, MAX_LAYER["readme"])
        return answers.foreign(data, "text/plain; charset=utf-8")

    def attachment(self, request: Request, links: Links, repository: str, version: str, digest: str,  # noqa: ARG002
                   number: str) -> Response:
        """A file of an attachment, to be saved."""
        bundle, _ = self._documents.bundle(repository, version)
        files = find(StorageSource(self._documents.holdings, repository), bundle.digest, digest)["files"]
        if int(number) >= len(files):
            raise NotFound("The attachment has no such file")
        path = self._documents.holdings.blob_path(repository, files[int(number)]["digest"])
        headers = {**answers.HEADERS, "Content-Security-Policy": answers.FOREIGN_POLICY}
        suffix = "json" if "json" in files[int(number)]["type"] else "bin"
        return FileResponse(path, 200, headers, "application/octet-stream",
                            filename=f"{bundle.descriptor.name}-{version}-{digest[7:19]}.{suffix}")

    def feed(self, request: Request, links: Links, repository: str) -> Response:  # noqa: ARG002
        """New versions, for feed readers."""
        current = self._documents.current(repository)
        bundle, _ = self._documents.bundle(repository, current.version)
        data = atom(bundle.descriptor.name, bundle.descriptor.manifest.summary, repository,
                    self._documents.versions(repository), links)
        return Response(data, 200, answers.HEADERS, "application/atom+xml; charset=utf-8")
