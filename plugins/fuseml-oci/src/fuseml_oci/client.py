"""The client for any OCI distribution registry: what FuseML needs of distribution-spec 1.1, verified byte by byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import requests

from fuseml_oci import media
from fuseml_oci.answers import expect
from fuseml_oci.descriptor import Descriptor, read_object
from fuseml_oci.digests import HEX_LENGTH, digest_bytes, is_digest, split_digest
from fuseml_oci.origin import joined
from fuseml_oci.progress import Watch
from fuseml_oci.readers import VerifiedReader
from fuseml_oci.reference import Reference, check_repository, check_tag, is_repository, is_tag
from fuseml_oci.referring import (
    change_fallback,
    described,
    entries,
    fallback_tag,
    read_fallback,
    subject_of,
    with_entry,
    without_entry,
)
from fuseml_oci.retries import RetryPolicy
from fuseml_oci.sections import Source, open_source
from fuseml_oci.transfers import Terms, download
from fuseml_oci.transport import MAX_DOCUMENT, SafeRegistry, Timeouts
from fuseml_oci.uploads import Upload
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, PluginError, Retryable

_ACCEPT = ", ".join((media.MANIFEST, media.INDEX, media.DOCKER_MANIFEST, media.DOCKER_INDEX))
#: How registries without the referrers API answer its URL.
_NO_SUCH_ENDPOINT = frozenset({404, 405, 501})
#: Bounds of lists, because a hostile registry can go on for ever.
MAX_PAGES, MAX_ITEMS, PAGE = 1000, 100_000, 1000
#: Bytes of all pages of a list together.
MAX_LIST = 32 << 20


class RegistryClient(SafeRegistry):
    """One registry, one set of credentials. See `SafeRegistry` for the arguments.

    Every method raises `NotFound`, `InvalidInput`, `Permanent` or `Retryable` of `fuseml_sdk.errors`; messages name
    registry, repository and tag or digest.
    """

    #: Whether the registry takes small blobs in one request (end-4b); set to False when it has refused once.
    takes_single_posts = True

    @classmethod
    def for_reference(cls, reference: Reference, *, insecure: bool | None = None) -> Self:
        """Return a client for the registry of a reference."""
        return cls(reference.registry, insecure=insecure)

    @classmethod
    def for_url(cls, url: str, *, timeout: Timeouts | None = None, retries: RetryPolicy | None = None,
                proxy: str = "", ca_bundle: str = "") -> Self:
        """Return a client for a base URL such as `http://127.0.0.1:8765`; the scheme decides about encryption.

        Raises:
            InvalidInput: It is not an http(s) URL without path, query and user name.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or "@" in parts.netloc:
            raise InvalidInput(f"{url!r} is not the base URL of a registry", hint="write http(s)://host[:port]")
        return cls(parts.netloc, insecure=parts.scheme == "http", timeout=timeout, retries=retries, proxy=proxy,
                   ca_bundle=ca_bundle)

    def ping(self) -> None:
        """Check that the registry answers and speaks the protocol (end-1)."""
        expect(self.do_request(self._url("")), (200,), f"registry {self.origin}")

    def resolve(self, repository: str, reference: str) -> Descriptor:
        """Return the verified descriptor of what a tag or digest points to."""
        data, media_type, digest = self.get_manifest(repository, reference)
        artifact_type = read_object(data, self._name(repository, reference)).get("artifactType") or ""
        return Descriptor(media_type, digest, len(data), artifact_type=str(artifact_type))

    def get_manifest(self, repository: str, reference: str) -> tuple[bytes, str, str]:
        """Fetch a manifest or index (end-3).

        Returns:
            (exact bytes, media type, digest): the digest is that of the bytes, and the asked one if one was asked.

        Raises:
            Permanent: The bytes do not have the digest, or body and header disagree about the type.
        """
        what = self._name(repository, reference)
        url = self._manifest_url(repository, reference)
        response = expect(self.do_request(url, headers={"Accept": _ACCEPT}, repository=repository), (200,), what)
        data = response.content
        wanted = reference if is_digest(reference) else response.headers.get("Docker-Content-Digest", "")
        digest = _checked_digest(data, wanted, what)
        return data, _media_type(data, response, what), digest

    def has_manifest(self, repository: str, reference: str) -> bool:
        """Ask whether a tag or digest exists, without fetching it."""
        response = self.do_request(self._manifest_url(repository, reference), "HEAD",
                                   headers={"Accept": _ACCEPT}, repository=repository)
        return self._exists(response, self._name(repository, reference))

    def has_blob(self, repository: str, digest: str) -> bool:
        """Ask whether a repository holds a blob (end-2)."""
        response = self.do_request(self._blob_url(repository, digest), "HEAD", repository=repository)
        return self._exists(response, self._name(repository, digest))

    def push_blob(self, repository: str, source: Source, digest: str, media_type: str,
                  watch: Watch | None = None) -> Descriptor:
        """Upload a blob unless it is there (end-4 to end-6), streaming it from disk.

        Small blobs take one request, large ones are resumed where a broken connection stopped.

        Args:
            repository: Name within the registry.
            source: File, part of a file, or bytes.
            digest: What they must have; checked while they are sent.
            media_type: For the descriptor; registries do not keep it.
            watch: Told how many bytes have been sent.

        Raises:
            InvalidInput: `source` does not have this digest.
        """
        split_digest(digest)
        file, size = open_source(source)
        with file:
            if not self.has_blob(repository, digest):
                what = self._name(repository, digest)
                Upload(self, repository, VerifiedReader(file, digest, size, what, watch), digest, what).send()
        return Descriptor(media_type, digest, size)

    def send_blob(self, repository: str, source: Source, digest: str, watch: Watch | None = None) -> None:
        """`push_blob` without asking first whether the blob is there."""
        what = self._name(check_repository(repository), digest)
        split_digest(digest)
        file, size = open_source(source)
        with file:
            Upload(self, repository, VerifiedReader(file, digest, size, what, watch), digest, what).send()

    def push_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        """Upload a manifest or index under a tag or its digest, byte for byte (end-7).

        Returns:
            Its digest.

        Raises:
            InvalidInput: The registry refuses it, for instance because the tag is immutable.
            Permanent: The registry stored something else.
        """
        return self._put_manifest(repository, reference, data, media_type)[0]

    def push_referrer(self, repository: str, manifest: bytes, media_type: str = media.MANIFEST) -> str:
        """Upload a manifest that has a subject, by its digest, so that the subject's referrers list it.

        Where the registry does not say that it has done so (header OCI-Subject), the index under the fallback tag is
        maintained instead. Annotations and artifact type are copied into it.

        Returns:
            Its digest.

        Raises:
            InvalidInput: It has no subject, or the registry refuses it.
        """
        subject = subject_of(manifest)
        if subject is None:
            raise InvalidInput(f"{self.origin}/{repository}: the manifest has no subject and refers to nothing")
        digest, headers = self._put_manifest(repository, digest_bytes(manifest), manifest, media_type)
        if headers.get("OCI-Subject") != subject.digest:
            change_fallback(self, repository, subject.digest, with_entry(described(manifest, media_type)))
        return digest

    def referrers(self, repository: str, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests whose subject is a digest (end-12), from the API or else the fallback tag.

        Args:
            repository: Name within the registry.
            digest: The subject; it need not exist.
            artifact_type: Only those; filtered here where the registry has not done so.

        Raises:
            Permanent: The list is longer than 100 000 entries or damaged.
        """
        split_digest(digest)
        check_repository(repository)
        what = f"referrers of {self._name(repository, digest)}"
        query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
        try:
            pages = self._pages(f"{repository}/referrers/{digest}{query}", repository, what)
            found = entries(pages, what)
        except PluginError as error:
            if error.details.get("status") not in _NO_SUCH_ENDPOINT:
                raise
            found = read_fallback(self, repository, digest)[0]
        return [d for d in found if not artifact_type or d.artifact_type == artifact_type]

    def delete_referrer(self, repository: str, digest: str) -> bool:
        """Delete a manifest by digest, and its entry under the fallback tag. Returns False if it was not there."""
        try:
            subject = subject_of(self.get_manifest(repository, digest)[0])
        except NotFound:
            return False
        deleted = self.delete_manifest(repository, digest)
        if subject is not None and self.has_manifest(repository, fallback_tag(subject.digest)):
            change_fallback(self, repository, subject.digest, without_entry(digest))
        return deleted

    def tag(self, repository: str, digest: str, tag: str) -> None:
        """Give a manifest of the repository a further tag; its bytes stay as they are.

        Raises:
            NotFound: There is no such manifest.
            InvalidInput: The tag is immutable and names another one.
        """
        data, media_type, _ = self.get_manifest(repository, digest)
        self.push_manifest(repository, check_tag(tag), data, media_type)

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Delete a tag and leave its manifest. Returns False if it was not there.

        Raises:
            InvalidInput: The registry deletes by digest only, as docker-registry 2 does.
        """
        return self.delete_manifest(repository, check_tag(tag))

    def mount_blob(self, repository: str, digest: str, source_repository: str) -> bool:
        """Make a blob of another repository of this registry available without sending it (end-11).

        Returns:
            False if the registry did not do it; the blob must be uploaded then.
        """
        split_digest(digest)
        query = urlencode({"mount": digest, "from": check_repository(source_repository)})
        url = self._url(f"{check_repository(repository)}/blobs/uploads/?{query}")
        headers = {"Content-Length": "0"}
        response = self.do_request(url, "POST", None, headers, repository=repository, source=source_repository)
        expect(response, (201, 202), self._name(repository, digest))
        if response.status_code == 202 and (session := response.headers.get("Location")):
            self.cancel_upload(repository, joined(url, session))
        return response.status_code == 201

    def cancel_upload(self, repository: str, session: str) -> None:
        """Tell the registry that the upload session at a URL is not needed (end-14); it forgets it later anyway."""
        with suppress(Permanent, Retryable):
            self.do_request(session, "DELETE", repository=repository, retry=False)

    def _put_manifest(self, repository: str, reference: str, data: bytes,
                      media_type: str) -> tuple[str, Mapping[str, str]]:
        what = self._name(repository, reference)
        if len(data) > MAX_DOCUMENT:
            raise InvalidInput(f"{what}: the manifest has {len(data)} bytes, more than {MAX_DOCUMENT}")
        digest = digest_bytes(data, split_digest(reference)[0] if is_digest(reference) else "sha256")
        if is_digest(reference) and digest != reference:
            raise InvalidInput(f"{what}: the manifest has the digest {digest}")
        url = self._manifest_url(repository, reference)
        response = self.do_request(url, "PUT", data, {"Content-Type": media_type}, repository=repository)
        expect(response, (201,), what)
        stored = response.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise Permanent(f"{what}: the registry stored {stored[:200]} instead of {digest}")
        return digest, response.headers

    def get_blob_bytes(self, repository: str, descriptor: Descriptor) -> bytes:
        """Fetch a small blob, such as a config, into memory; verified, at most 4 MiB."""
        what = self._name(repository, descriptor.digest)
        if descriptor.size > MAX_DOCUMENT:
            raise InvalidInput(f"{what}: {descriptor.size} bytes are too many to be held in memory")
        response = self.do_request(self._blob_url(repository, descriptor.digest), repository=repository)
        data = expect(response, (200,), what).content
        if len(data) != descriptor.size:
            raise Permanent(f"{what}: the content has {len(data)} bytes, the descriptor says {descriptor.size}")
        _checked_digest(data, descriptor.digest, what)
        return data

    def pull_blob(self, repository: str, descriptor: Descriptor, destination: Path, *, keep: bool = False,
                  watch: Watch | None = None) -> None:
        """Download a blob into a file, which appears only when size and digest are right (end-2).

        A broken connection is resumed with a range request. Nothing else is left behind on failure, unless `keep`
        asks for what has arrived to be kept beside the destination, for the next try; `watch` is told its size.
        """
        what = self._name(repository, descriptor.digest)
        url = self._blob_url(repository, descriptor.digest)

        def open_from(offset: int) -> requests.Response:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            response = self.do_request(url, headers=headers, stream=True, repository=repository)
            return response if response.status_code in (200, 206) else expect(self._finish(response, url), (), what)

        terms = Terms(self.timeout.read, self.retries, what, watch, keep)
        download(open_from, descriptor, destination, terms)

    def delete_manifest(self, repository: str, reference: str) -> bool:
        """Delete a tag, or a manifest by digest (end-9). Returns False if it was not there."""
        response = self.do_request(self._manifest_url(repository, reference), "DELETE", repository=repository)
        expect(response, (202, 200, 204, 404), self._name(repository, reference))
        return response.status_code != 404

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Delete a blob from a repository (end-10). Returns False if it was not there."""
        response = self.do_request(self._blob_url(repository, digest), "DELETE", repository=repository)
        expect(response, (202, 200, 204, 404), self._name(repository, digest))
        return response.status_code != 404

    def tags(self, repository: str) -> list[str]:
        """Return all tags (end-8), at most 100 000; what is no tag is left out."""
        check_repository(repository)
        return [tag for tag in self._listed(f"{repository}/tags/list?n={PAGE}", "tags", repository) if is_tag(tag)]

    def repositories(self) -> list[str]:
        """Return all repositories (`_catalog`, which not every registry offers), at most 100 000."""
        return [name for name in self._listed(f"_catalog?n={PAGE}", "repositories", "") if is_repository(name)]

    def _listed(self, path: str, key: str, repository: str) -> list[str]:
        what, items = f"{key} of {self.origin}/{repository}", list[str]()
        for page in self._pages(path, repository, what):
            items += [item for item in page.get(key) or [] if isinstance(item, str)]
            if len(items) > MAX_ITEMS:
                raise Permanent(f"{what}: the list does not end after {len(items)} entries")
        return items

    def _pages(self, path: str, repository: str, what: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list, at most a thousand, never the same one twice."""
        url, seen, size = self._url(path), set[str](), 0
        while url:
            if len(seen) >= MAX_PAGES or url in seen or size > MAX_LIST:
                raise Permanent(f"{what}: the list does not end after {len(seen)} pages")
            seen.add(url)
            response = expect(self.do_request(url, repository=repository), (200,), what)
            size += len(response.content)
            yield read_object(response.content, what)
            link = response.links.get("next", {}).get("url")
            url = joined(url, link) if link else ""

    def _exists(self, response: requests.Response, what: str) -> bool:
        return expect(response, (200, 404), what).status_code == 200

    def _url(self, path: str) -> str:
        return f"{self.origin}/v2/{path}"

    def _manifest_url(self, repository: str, reference: str) -> str:
        if is_digest(reference):
            split_digest(reference)
        else:
            check_tag(reference)
        return self._url(f"{check_repository(repository)}/manifests/{quote(reference, safe=':')}")

    def _blob_url(self, repository: str, digest: str) -> str:
        split_digest(digest)
        return self._url(f"{check_repository(repository)}/blobs/{digest}")

    def _name(self, repository: str, reference: str) -> str:
        mark = "@" if is_digest(reference) else ":"
        return f"oci://{self.registry}/{repository}{mark}{reference}"


def _checked_digest(data: bytes, wanted: str, what: str) -> str:
    algorithm = wanted.partition(":")[0]
    digest = digest_bytes(data, algorithm if algorithm in HEX_LENGTH else "sha256")
    if wanted and digest != wanted:
        raise Permanent(f"{what}: the content has the digest {digest} instead of {wanted[:200]}",
                        hint="the registry or something on the way changed it; nothing was kept")
    return digest


def _media_type(data: bytes, response: requests.Response, what: str) -> str:
    """The type of a manifest, on which header and body must agree (image-spec, manifest.md and CVE-2021-41190)."""
    header = response.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        document = read_object(data, what)
    except InvalidInput as error:
        raise Permanent(f"{error.message}: the manifest is not a JSON object that can be trusted") from None
    body = document.get("mediaType") or ""
    if body and header and body != header:
        raise Permanent(f"{what}: the header says {header[:100]!r}, the manifest {str(body)[:100]!r}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise Permanent(f"{what}: the manifest could be taken for an index, too: it has both manifests and layers")
    return str(body or header)
