"""Bundles in registries, the embedded one and others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.service.extensions.ports import FoundBundle, Progress
from fuseml_oci.bundles.references import newest, read_reference, sorted_versions
from fuseml_oci.bundles.transfer import RemoteBundle, look_up, pull
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.errors import InvalidInput, NotFound


class RegistryBundles:
    """Finds and fetches bundles; implements the port `Bundles`.

    Args:
        registry: Returns the base URL of the embedded registry, such as `http://127.0.0.1:8765`; asked each time,
            because the port may be chosen when the server starts.
        content: Folder of verified blobs.
        proxy: URL of an HTTP proxy for other registries; by default as the environment says.
        ca_bundle: PEM file with the certificate authorities to trust; by default as the environment says.
    """

    def __init__(self, registry: Callable[[], str], content: Path, *, proxy: str = "", ca_bundle: str = "") -> None:
        self._registry, self._content, self._proxy, self._ca_bundle = registry, content, proxy, ca_bundle

    def is_trusted(self, reference: str) -> bool:
        """Whether it is in the embedded registry; nothing is trusted that only says so in its name."""
        with translated():
            return self._is_embedded(self._reference(reference).registry)

    def find(self, reference: str) -> FoundBundle:
        """Look a bundle up; without a tag, the highest release, else the last development build."""
        with translated():
            parsed = self._reference(reference)
            client = self._client(parsed)
            if not parsed.locator:
                parsed = self._newest(parsed, client)
            found = look_up(parsed, client)
            name = parsed.repository.rpartition("/")[2]
            if found.descriptor.name != name:
                raise InvalidInput(f"{parsed} contains the extension {found.descriptor.name!r}",
                                   hint="A bundle lies in a repository that ends with its name.")
            return self._found(found)

    def versions(self, sibling: str, name: str) -> Sequence[str]:
        """Versions of another extension beside this one: releases, then the last development build, then the rest."""
        with translated():
            reference = _beside(parse(sibling), name)
            client = self._client(reference)
            try:
                tags = client.tags(reference.repository)
            except NotFound:
                return []
            versions = sorted_versions(tags)
            if "dev" not in tags:
                return versions
            last = look_up(reference.with_tag("dev"), client).descriptor.version
            return sorted(versions, key=lambda version: ("-" in version, version != last))

    def find_version(self, sibling: str, name: str, version: str) -> FoundBundle:
        """Look up one of these versions."""
        return self.find(str(_beside(parse(sibling), name).with_tag(version)))

    def fetch(self, found: FoundBundle, destination: Path, progress: Progress) -> None:
        """Download, verify and unpack a bundle."""
        with translated(f"{found.name} {found.version}: "):
            reference = parse(found.reference)
            unpack(pull(reference, self._client(reference), self._content, progress), destination)

    def clean(self, keep: Collection[str]) -> None:
        """Drop downloaded layers whose digest is not in `keep`."""
        names = {digest.partition(":")[2] for digest in keep}
        for path in (self._content / "sha256").glob("*"):
            if path.name not in names and path.is_file():
                path.unlink(missing_ok=True)

    def _newest(self, reference: Reference, client: RegistryClient) -> Reference:
        try:
            return newest(client.tags(reference.repository), reference)
        except NotFound:
            name = reference.repository.rpartition("/")[2]
            raise NotFound(f"there is no extension {name!r} at {reference}",
                           hint=f"Push its bundle there first: fuseml bundle push DIR {reference}") from None

    @staticmethod
    def _found(bundle: RemoteBundle) -> FoundBundle:
        return FoundBundle(reference=str(bundle.reference), digest=bundle.digest,
                           descriptor=bundle.descriptor.model_dump(mode="json", by_alias=True))

    def _reference(self, text: str) -> Reference:
        return read_reference(text, self._embedded())

    def _embedded(self) -> str:
        return urlsplit(self._registry()).netloc

    def _is_embedded(self, registry: str) -> bool:
        own = self._embedded()
        port = own.rpartition(":")[2]
        return registry in {own, f"localhost:{port}"} and own.startswith("127.0.0.1:")

    def _client(self, reference: Reference) -> RegistryClient:
        own = urlsplit(self._registry())
        insecure = own.scheme == "http" if reference.registry == own.netloc else None
        return RegistryClient(reference.registry, insecure=insecure, proxy=self._proxy, ca_bundle=self._ca_bundle)


def _beside(reference: Reference, name: str) -> Reference:
    namespace = reference.repository.rpartition("/")[0]
    return Reference(reference.registry, f"{namespace}/{name}" if namespace else name)
