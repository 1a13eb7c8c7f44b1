"""What a hostile or broken registry can try; each case is one of the 2026 advisories of OCI clients or a defect of
oras-py 0.2.43 that the client must not inherit."""

from __future__ import annotations

import hashlib
import json
import time

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.credentials import Credentials
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.origin import check_redirect, origin_of
from fuseml_oci.retries import Patience, RetryPolicy
from fuseml_oci.tokens import Authorizer
from fuseml_oci.transport import Timeouts
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, Retryable

DATA = b"payload" * 50_000
BLOB = Descriptor("x/y", digest_bytes(DATA), len(DATA))
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": {}, "layers": []}).encode()
ME = Credentials("me", "top-secret")
QUICK = RetryPolicy(attempts=3, base=0.01, budget=5)


@pytest.fixture
def client(evil):
    with RegistryClient(evil.host, timeout=Timeouts(2, 1), retries=QUICK, credentials=ME) as connected:
        yield connected


def refused(client, tmp_path, error, match):
    with pytest.raises(error, match=match) as caught:
        client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert not list(tmp_path.iterdir()), "nothing may be left behind"
    return caught.value


def test_wrong_digest(evil, client, answer, tmp_path):
    evil.behave = lambda h: answer(h, 200, DATA[:-1] + b"!")
    refused(client, tmp_path, Permanent, "another digest")
    with pytest.raises(Permanent, match="digest"):
        client.get_blob_bytes("a/b", BLOB)
    assert len(evil.requests) == 2, "content that is wrong is not asked for again"


@pytest.mark.parametrize("data", [DATA + b"x", DATA[:-1], b""])
def test_wrong_announced_size(evil, client, answer, tmp_path, data):
    evil.behave = lambda h: answer(h, 200, data)
    refused(client, tmp_path, Permanent, "announces")


def test_endless_body_is_cut_at_the_expected_size(evil, client, tmp_path):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while not evil.stop.is_set():
            handler.wfile.write(b"x" * 65536)

    evil.behave = endless
    refused(client, tmp_path, Permanent, "more than the expected")
    with pytest.raises(Permanent, match="more than the expected"):
        client.get_manifest("a/b", "x")


def test_chunked_body_that_is_too_long(evil, client, tmp_path):
    def chunked(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(20):
            handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    evil.behave = chunked
    refused(client, tmp_path, Permanent, "more than the expected")


def test_manifest_over_the_limit(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, b" " * ((4 << 20) + 1))
    with pytest.raises(Permanent, match="4194304"):
        client.get_manifest("a/b", "x")


def test_manifest_that_has_not_the_digest_asked_for(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, MANIFEST, Content_Type=media.MANIFEST)
    with pytest.raises(Permanent, match="digest"):
        client.get_manifest("a/b", digest_bytes(b"another"))
    assert client.get_manifest("a/b", digest_bytes(MANIFEST))[0] == MANIFEST


def test_manifest_that_has_not_the_digest_of_the_header(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, MANIFEST, Docker_Content_Digest=digest_bytes(b"another"))
    with pytest.raises(Permanent, match="digest"):
        client.get_manifest("a/b", "tag")


def test_manifest_whose_type_is_disputed(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, MANIFEST, Content_Type=media.INDEX)
    with pytest.raises(Permanent, match="header says"):
        client.get_manifest("a/b", "tag")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 200_000, b"\xff\xfe"])
def test_manifest_that_is_no_object(evil, client, answer, body):
    evil.behave = lambda h: answer(h, 200, body)
    with pytest.raises(Permanent, match="not a JSON object"):
        client.get_manifest("a/b", "tag")


def test_compressed_bombs_are_refused(evil, client, answer, tmp_path):
    evil.behave = lambda h: answer(h, 200, b"\x1f\x8b", Content_Encoding="gzip", Content_Length=str(len(DATA)))
    refused(client, tmp_path, Permanent, "compressed")


def test_endless_paging(evil, client, answer):
    def page(handler):
        number = len(evil.requests)
        answer(handler, 200, json.dumps({"tags": [f"t{number}"] * 500}).encode(),
               Link=f'</v2/a/b/tags/list?last=t{number}>; rel="next"')

    evil.behave = page
    with pytest.raises(Permanent, match="does not end"):
        client.tags("a/b")
    assert len(evil.requests) <= 1000


def test_paging_to_another_host(evil, stranger, client, answer):
    evil.behave = lambda h: answer(h, 200, b'{"tags": []}', Link=f'<http://{stranger.host}/v2/x>; rel="next"')
    with pytest.raises(Permanent, match="sends the client to"):
        client.tags("a/b")
    assert not stranger.requests


def with_basic(answer, then):
    """Demand Basic credentials before anything else."""
    def behave(handler):
        if not handler.headers.get("Authorization"):
            return answer(handler, 401, b"", WWW_Authenticate='Basic realm="x"')
        return then(handler)
    return behave


def test_redirect_to_another_origin_carries_no_credentials(evil, stranger, client, answer, tmp_path):
    """GHSA-vh4v-2xq2-g5cg: another port is another origin."""
    evil.behave = with_basic(answer, lambda h: answer(h, 307, Location=f"http://{stranger.host}/storage?sig=1"))
    stranger.behave = lambda h: answer(h, 200, DATA)
    client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert evil.requests[-1][2]["Authorization"] == ME.basic
    assert [headers.get("Authorization") for _, _, headers in stranger.requests] == [None]


def test_stranger_that_asks_for_the_password_does_not_get_it(evil, stranger, client, answer, tmp_path):
    evil.behave = with_basic(answer, lambda h: answer(h, 307, Location=f"http://{stranger.host}/x"))
    stranger.behave = lambda h: answer(h, 401, WWW_Authenticate='Basic realm="mine"')
    refused(client, tmp_path, Permanent, "401")
    assert all("Authorization" not in headers for _, _, headers in stranger.requests)


def test_endless_redirects(evil, client, answer, tmp_path):
    evil.behave = lambda h: answer(h, 302, Location=h.path)
    with pytest.raises(Permanent, match="redirects more than"):
        client.pull_blob("a/b", BLOB, tmp_path / "x")


def test_body_of_a_redirect_is_not_read(evil, client, tmp_path):
    def endless(handler):
        handler.send_response(307)
        handler.send_header("Location", "http://127.0.0.1:9/x")
        handler.end_headers()
        handler.close_connection = True
        while not evil.stop.is_set():
            handler.wfile.write(b"x" * 65536)

    evil.behave = endless
    before = time.monotonic()
    refused(client, tmp_path, Retryable, "cannot be reached")
    assert time.monotonic() - before < 5


@pytest.mark.parametrize(("source", "target"), [
    ("https://r.io", "http://r.io/x"), ("https://r.io", "https://127.0.0.1/x"), ("https://r.io", "https://localhost/x"),
    ("http://r.io", "http://169.254.169.254/latest"), ("https://r.io", "https://[::ffff:127.0.0.1]/"),
    ("https://r.io", "https://[fe80::1]/"), ("https://r.io", "https://0.0.0.0/"),
])
def test_redirects_that_are_not_followed(source, target):
    with pytest.raises(Permanent):
        check_redirect(origin_of(source), origin_of(target))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://user:pw@127.0.0.1/", "http://[", "//"])
def test_redirects_to_what_is_no_address(evil, client, answer, location):
    evil.behave = lambda h: answer(h, 307, Location=location)
    with pytest.raises((Permanent, Retryable)):
        client.ping()


def test_upload_location_on_another_host(evil, stranger, client, answer):
    """GHSA-jxpm-75mh-9fp7."""
    def behave(handler):
        if handler.command == "HEAD":
            return answer(handler, 404)
        return answer(handler, 202, Location=f"http://{stranger.host}/v2/upload/1")

    evil.behave = with_basic(answer, behave)
    with pytest.raises(Permanent, match="sends the client to"):
        client.push_blob("a/b", DATA, BLOB.digest, "x/y")
    assert not stranger.requests


@pytest.mark.parametrize("location", ["", "/v2/a/b/blobs/uploads/"])
def test_upload_without_a_session(evil, client, answer, location):
    evil.behave = lambda h: answer(h, 404) if h.command == "HEAD" else answer(h, 202, Location=location)
    with pytest.raises(Permanent, match="no upload session"):
        client.push_blob("a/b", DATA, BLOB.digest, "x/y")


def test_upload_redirected_elsewhere(evil, client, answer):
    evil.behave = lambda h: answer(h, 404) if h.command == "HEAD" else answer(h, 307, Location="/elsewhere")
    with pytest.raises(Permanent, match="followed for reading only"):
        client.push_blob("a/b", DATA, BLOB.digest, "x/y")


def test_realm_of_a_stranger_does_not_get_the_password(evil, client, answer):
    """GHSA-28r5-37g7-p6mp, GHSA-xf85-363p-868w."""
    evil.behave = lambda h: answer(h, 401, WWW_Authenticate='Bearer realm="https://thief.example/token",service="s"')
    with pytest.raises(Permanent, match=r"thief\.example"):
        client.ping()


@pytest.mark.parametrize(("registry", "realm", "allowed"), [
    ("https://ghcr.io", "https://ghcr.io/token", True), ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
    ("https://registry-1.docker.io", "https://auth.docker.io/token", True), ("https://r.io", "https://auth.r.io/t", True),
    ("https://r.io", "http://r.io/token", False), ("https://r.io", "https://evil-r.io/t", False),
    ("https://r.io", "https://io/t", False), ("https://a.r.io", "https://b.r.io/t", False),
])
def test_which_realms_may_see_the_password(registry, realm, allowed):
    asked = []

    def fetch(url, headers, form):
        asked.append(headers.get("Authorization"))
        return 200, b'{"token": "t"}'

    authorizer = Authorizer(origin_of(registry), lambda repository: ME, fetch)
    if allowed:
        assert authorizer.answer(f'Bearer realm="{realm}"', "a/b", "pull")
        assert asked == [ME.basic]
    else:
        with pytest.raises(Permanent):
            authorizer.answer(f'Bearer realm="{realm}"', "a/b", "pull")
        assert not asked


def test_tokens_are_kept_per_repository_and_action_and_renewed_once(evil, client, answer):
    issued = []

    def behave(handler):
        if handler.path.startswith("/token"):
            issued.append(handler.path)
            return answer(handler, 200, json.dumps({"token": f"t{len(issued)}", "expires_in": 300}).encode())
        if handler.headers.get("Authorization") == f"Bearer t{len(issued)}" and len(issued) != 2:
            return answer(handler, 200, MANIFEST)
        repository = handler.path.split("/manifests")[0].removeprefix("/v2/")
        return answer(handler, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token",service="s",'
                                                     f'scope="repository:{repository}:pull"')

    evil.behave = behave
    client.get_manifest("a/b", "x")
    client.get_manifest("a/b", "y")
    assert len(issued) == 1
    with pytest.raises(Permanent, match="401"):
        client.get_manifest("c/d", "x")
    assert len(issued) == 2, "a refused token is not asked for again and again"
    client.get_manifest("c/d", "x")
    assert len(issued) == 3
    assert "scope=repository%3Ac%2Fd%3Apull" in issued[1]


def test_wrong_password_fails_at_once(evil, client, answer):
    evil.behave = lambda h: answer(h, 401, WWW_Authenticate='Basic realm="x"')
    before = time.monotonic()
    with pytest.raises(Permanent, match="401") as error:
        client.ping()
    assert time.monotonic() - before < 1
    assert len(evil.requests) == 2
    assert "top-secret" not in repr(error.value) + str(error.value) + repr(client.__dict__.get("_authorizer").__dict__)


def test_no_answer_is_a_timeout(evil, client):
    evil.behave = lambda h: evil.stop.wait(20)
    before = time.monotonic()
    with pytest.raises(Retryable, match="no answer within 1 s"):
        client.push_manifest("a/b", "x", MANIFEST, media.MANIFEST)
    assert time.monotonic() - before < 8


def test_body_in_drops_is_a_timeout(evil, client, tmp_path):
    """Each drop resets a socket timeout, so only a minimum rate helps."""
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        while not evil.stop.wait(0.1):
            handler.wfile.write(b"x")

    evil.behave = drip
    before = time.monotonic()
    refused(client, tmp_path, Retryable, "too slow")
    assert time.monotonic() - before < 15


def test_broken_download_is_resumed_with_a_range(evil, client, answer, tmp_path):
    def broken(handler):
        offset = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        part = DATA[offset:offset + 150_000]
        handler.send_response(206 if offset else 200)
        handler.send_header("Content-Length", str(len(DATA) - offset))
        if offset:
            handler.send_header("Content-Range", f"bytes {offset}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(part)
        handler.close_connection = True

    evil.behave = broken
    client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == BLOB.digest[7:]
    assert [h.get("Range") for _, _, h in evil.requests] == [None, "bytes=150000-", "bytes=300000-"]


def test_broken_download_begins_again_where_ranges_are_unknown(evil, client, answer, tmp_path):
    def behave(handler):
        if len(evil.requests) > 1:
            return answer(handler, 200, DATA)
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:1000])
        return None

    evil.behave = behave
    client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_faults_are_retried(evil, client, answer, status):
    evil.behave = lambda h: answer(h, 200 if len(evil.requests) > 2 else status, b"{}", Retry_After="0")
    client.ping()
    assert len(evil.requests) == 3


@pytest.mark.parametrize(("status", "error"), [
    (400, InvalidInput), (403, Permanent), (404, NotFound), (409, InvalidInput), (413, InvalidInput), (418, Permanent),
    (429, Retryable), (507, Retryable), (500, Retryable)])
def test_answers_become_errors_that_say_what_to_do(evil, client, answer, status, error):
    told = json.dumps({"errors": [{"code": "CODE", "message": "because\x1b[31m" + "x" * 9999}]}).encode()
    evil.behave = lambda h: answer(h, status, told)
    with pytest.raises(error, match="CODE: because") as caught:
        client.push_manifest("a/b", "x", MANIFEST, media.MANIFEST)
    assert len(caught.value.message) < 1000
    assert "\x1b" not in caught.value.message
    assert caught.value.details["status"] == status


def test_registry_that_stores_something_else(evil, client, answer):
    evil.behave = lambda h: answer(h, 201, Docker_Content_Digest=digest_bytes(b"else"))
    with pytest.raises(Permanent, match="stored"):
        client.push_manifest("a/b", "x", MANIFEST, media.MANIFEST)


def test_upload_begins_again_when_its_session_is_lost(evil, client, answer):
    def behave(handler):
        if handler.command == "HEAD":
            return answer(handler, 404)
        if handler.command == "POST":
            return answer(handler, 202, Location=f"/v2/a/b/blobs/uploads/{len(evil.requests)}")
        return answer(handler, 503 if sum(m == "PUT" for m, _, _ in evil.requests) == 1 else 201)

    evil.behave = behave
    client.push_blob("a/b", DATA, BLOB.digest, "x/y")
    puts = [path for method, path, _ in evil.requests if method == "PUT"]
    assert len(puts) == len({*puts}) == 2


def test_retry_after_beyond_the_budget_is_not_waited_for():
    waits = []
    patience = Patience(RetryPolicy(attempts=9, budget=20), clock=lambda: sum(waits), sleep=waits.append)
    assert patience.again("5")
    assert waits == [5.0]
    assert not patience.again("3600")


def test_credentials_are_not_taken_from_netrc(evil, answer, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    evil.behave = lambda h: answer(h, 200, b"{}")
    with RegistryClient(evil.host) as client:
        client.ping()
    assert "Authorization" not in evil.requests[0][2]
