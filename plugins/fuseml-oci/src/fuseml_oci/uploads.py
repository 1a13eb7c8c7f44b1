"""Sending one blob: at once, as one stream, or in chunks that go on where a broken connection stopped.

distribution-spec, "Pushing blobs": end-4 to end-6, end-13, end-14.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import requests

from fuseml_oci.answers import expect
from fuseml_oci.origin import joined
from fuseml_oci.readers import Body, VerifiedReader
from fuseml_oci.retries import Patience
from fuseml_sdk.errors import InvalidInput, Permanent, Retryable

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient

#: Blobs up to this size go out with the request that asks for a session, where the registry allows that (end-4b).
SINGLE = 128 << 10
#: Blobs from this size on can be resumed; smaller ones are quickly sent again.
RESUMABLE = 64 << 20
#: Bytes of a chunk once something on the way has refused or cut longer bodies.
CHUNK = 16 << 20
#: Smallest and largest chunk that a registry may ask for with OCI-Chunk-Min-Length.
MIN_CHUNK, MAX_CHUNK = 1 << 20, 1 << 30
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_OCTETS = {"Content-Type": "application/octet-stream"}


class Upload:
    """One blob on its way into a repository.

    Args:
        client: For the registry.
        repository: Name within it.
        reader: The blob.
        digest: What it must have.
        what: For errors.
    """

    def __init__(self, client: RegistryClient, repository: str, reader: VerifiedReader, digest: str, what: str) -> None:
        self._client, self._repository, self._reader = client, repository, reader
        self._digest, self._what = digest, what
        self._start = f"{client.origin}/v2/{repository}/blobs/uploads/"
        self._chunk = reader.size

    def send(self) -> None:
        """Send the blob; repeat what passing faults interrupted.

        Raises:
            InvalidInput: The source does not have the digest, or the registry refuses the blob.
            Retryable: Faults did not pass.
            Permanent: The registry leads elsewhere or gives no session.
        """
        patience, mark = Patience(self._client.retries), 0
        while True:
            try:
                self._try()
                return
            except Retryable as error:  # the session may be lost: begin another
                if self._reader.hashed - mark >= MIN_CHUNK:
                    patience, mark = Patience(self._client.retries), self._reader.hashed
                if not patience.again(error.details.get("retry_after")):
                    raise
                if self._client.has_blob(self._repository, self._digest):
                    return
            except InvalidInput as error:
                if error.details.get("status") != 413 or not self._shorter():
                    raise

    def _try(self) -> None:
        if self._sent_at_once():
            return
        session, size = self._open(), self._reader.size
        if size < RESUMABLE and self._chunk >= size:
            self._finish(session, 0)
        else:
            self._finish(*self._in_chunks(session))

    def _sent_at_once(self) -> bool:
        size = self._reader.size
        if not 0 < size <= SINGLE or not self._client.takes_single_posts:
            return False
        url = f"{self._start}?{urlencode({'digest': self._digest})}"
        response = self._request("POST", url, Body(self._reader, 0, size), dict(_OCTETS))
        if response.status_code == 201:
            return True
        self._client.takes_single_posts = False
        if response.status_code == 202 and response.headers.get("Location"):
            self._client.cancel_upload(self._repository, joined(url, response.headers["Location"]))
        elif response.status_code not in (404, 405, 501):
            expect(response, (202,), self._what)
        return False

    def _open(self) -> str:
        """Begin a session (end-4a); returns its URL."""
        response = self._request("POST", self._start, None, {"Content-Length": "0"}, retry=True)
        expect(response, (202,), self._what)
        minimum = response.headers.get("OCI-Chunk-Min-Length", "")
        if minimum.isdigit() and self._chunk < self._reader.size:
            self._chunk = max(self._chunk, min(int(minimum[:19]), MAX_CHUNK))
        return self._session(response, self._start)

    def _session(self, response: requests.Response, asked: str) -> str:
        location = joined(asked, response.headers.get("Location", ""))
        if urlsplit(location).path == urlsplit(self._start).path:
            raise Permanent(f"{self._what}: the registry gave no upload session")
        return location

    def _finish(self, session: str, offset: int) -> None:
        """Send the rest and name the digest (end-6)."""
        url = session + ("&" if urlsplit(session).query else "?") + urlencode({"digest": self._digest})
        left = self._reader.size - offset
        body, headers = (Body(self._reader, offset, left), _OCTETS) if left else (b"", {**_OCTETS,
                                                                                        "Content-Length": "0"})
        expect(self._remembered(self._request("PUT", url, body, dict(headers))), (201,), self._what)

    def _in_chunks(self, session: str) -> tuple[str, int]:
        """Send chunk by chunk (end-5), asking after faults where to go on (end-13).

        Returns:
            The URL of the session and how many bytes it has: all, or none where the registry takes no chunks.
        """
        offset, best, patience = 0, 0, Patience(self._client.retries)
        while offset < self._reader.size:
            fault = Retryable(f"{self._what}: the upload does not go on after {offset} bytes")
            try:
                session, there = self._send_chunk(session, offset)
                if there < 0:
                    return session, 0
                offset = there
            except Retryable as error:
                self._shorter(CHUNK)
                fault = error
                session, offset = self._ask(session)
            if offset >= min(best + MIN_CHUNK, self._reader.size):
                best, patience = offset, Patience(self._client.retries)  # it goes on, if slowly
            elif not patience.again(fault.details.get("retry_after")):
                raise fault
        return session, offset

    def _send_chunk(self, session: str, offset: int) -> tuple[str, int]:
        """Send one chunk; returns the session and its new offset: -1 if the registry takes no chunks."""
        length = min(self._chunk, self._reader.size - offset)
        headers = {**_OCTETS, "Content-Range": f"{offset}-{offset + length - 1}"}
        response = self._request("PATCH", session, Body(self._reader, offset, length), headers)
        if response.status_code == 413 and self._shorter():
            return session, offset
        if response.status_code in (405, 501) and not offset:
            return session, -1
        if response.status_code in (409, 416):  # it still reads the request that broke, or is elsewhere
            raise Retryable(f"{self._what}: the registry expects other bytes than those after {offset}")
        expect(self._remembered(response), (202,), self._what)
        return self._session(response, session), self._counted(response, offset + length)

    def _remembered(self, response: requests.Response) -> requests.Response:
        """Return the answer unless it says that there is no such session, or none in the state that its URL tells.

        docker-registry says so while it still writes down what came before a cut.
        """
        if response.status_code == 404:
            raise Retryable(f"{self._what}: the registry does not know the state of the upload any more")
        return response

    def _ask(self, session: str) -> tuple[str, int]:
        """Return the URL of the session and how many bytes the registry has."""
        response = self._request("GET", session, None, {}, retry=True)
        if response.status_code not in (200, 204):
            raise Retryable(f"{self._what}: the registry has forgotten the upload session: it answers "
                            f"{response.status_code}")
        return self._session(response, session), self._counted(response, 0)

    def _counted(self, response: requests.Response, default: int) -> int:
        match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        count = default if match is None else int(match[1]) + 1 if match[1] != "0" else 0
        if count > self._reader.hashed:
            raise Permanent(f"{self._what}: the registry claims to have {count} bytes, but only "
                            f"{self._reader.hashed} were sent")
        return count

    def _shorter(self, least: int = 0) -> bool:
        """Use smaller chunks from now on, if they are larger than `least`; False if they cannot be smaller."""
        floor = least or MIN_CHUNK
        if min(self._chunk, self._reader.size) <= floor:
            return False
        self._chunk = min(CHUNK, max(floor, min(self._chunk, self._reader.size) // 4))
        return True

    def _request(self, method: str, url: str, body: Body | bytes | None, headers: dict[str, str], *,
                 retry: bool = False) -> requests.Response:
        return self._client.do_request(url, method, body, headers, repository=self._repository, retry=retry,
                                       action="push")
