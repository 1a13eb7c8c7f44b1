"""What a hostile or broken registry can try.

Each case is one of the 2026 advisories of OCI clients or a defect of oras-py 0.2.43 that the client must not inherit:

    wrong digest or size of a blob          test_wrong_digest, test_wrong_announced_size
    wrong digest of a manifest              test_manifest_that_has_not_the_digest_asked_for, …_of_the_header
    endless, too long, compressed bodies    test_endless_body…, test_chunked_body…, test_every_answer_is_bounded, …
    slow bodies, headers, uploads           test_body_in_drops…, test_headers_in_drops…, test_a_server_that_reads_nothing…
    endless trailers and interim answers    test_trailers_without_end, test_interim_answers_without_end
    manifest over the cap                   test_manifest_over_the_limit
    media-type confusion (CVE-2021-41190)   test_manifest_whose_type_is_disputed, test_manifest_that_is_two_things
    duplicate JSON keys                     test_duplicate_keys
    digests that are paths                  test_digests_that_are_paths, test_manifest_with_digests_that_are_paths
    paging for ever, in circles, elsewhere  test_lists_without_end, test_paging_to_another_host
    credentials to other hosts              test_credentials_of_one_registry…, test_redirect_to_another_origin…, …
    redirects to another scheme or port     test_redirect_from_https…, test_redirect_to_another_origin…
    hostile realm (GHSA-28r5…, GHSA-xf85…)  test_realm…, test_which_realms…, test_realms_that_nobody_is_sent_to
    redirecting token server                test_token_server_that_redirects
    foreign upload Location (GHSA-jxpm…)    test_upload_location…, test_bearer_is_not_sent_to_a_foreign_upload_location
    stale and too narrow tokens             test_tokens_are_kept…, test_a_token_for_pulling_is_not_used_for_pushing
    waiting with a wrong password           test_wrong_password_fails_at_once
    retries of what will not change         test_passing_faults_are_retried, test_retry_after_beyond_the_budget…
    debug logs with secrets (GHSA-5jhf…)    test_debug_logs_hold_no_secrets
    cookies, .netrc                         test_cookies_are_not_kept, test_credentials_are_not_taken_from_netrc
    terminal escapes in messages            test_answers_become_errors_that_say_what_to_do
    a bad certificate                       test_a_certificate_that_nobody_vouches_for
    a JSON layer that looks like a manifest test_a_layer_that_looks_like_a_manifest_stays_a_layer (test_copying.py)

Uploads that never get on, and registries that count wrongly: test_resumed_transfers.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import LayoutEntry, copy
from fuseml_oci.credentials import Credentials
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.origin import check_redirect, origin_of
from fuseml_oci.reference import parse
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


def test_manifest_that_is_two_things(evil, client, answer):
    """CVE-2021-41190: taken for an index by one client, and for a manifest by another."""
    for more in ({"layers": []}, {"config": {}}):
        data = json.dumps({"schemaVersion": 2, "manifests": [], **more}).encode()
        evil.behave = lambda h, data=data: answer(h, 200, data, Content_Type=media.INDEX)
        with pytest.raises(Permanent, match="both"):
            client.get_manifest("a/b", "tag")


@pytest.mark.parametrize("data", [
    b'{"mediaType": "a/b", "layers": [], "layers": [1]}', b'{"config": {"digest": "a", "digest": "b"}}',
    b'{"mediaType": "a/b", "media\\u0054ype": "c/d"}'])
def test_duplicate_keys(evil, client, answer, data):
    """One program would see the first, another the second."""
    evil.behave = lambda h: answer(h, 200, data)
    with pytest.raises(Permanent, match="twice"):
        client.get_manifest("a/b", "tag")
    with pytest.raises(InvalidInput, match="twice"):
        client.tags("a/b")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"9" * 5000])
def test_numbers_that_are_none(evil, client, answer, number):
    evil.behave = lambda h: answer(h, 200, b'{"size": %s}' % number)
    with pytest.raises(Permanent, match="not JSON"):
        client.get_manifest("a/b", "tag")


@pytest.mark.parametrize("digest", [
    "sha256:../../../etc/passwd", f"sha256:{'A' * 64}", f"sha256:{'a' * 63}", f"sha256:{'a' * 65}", "sha256:", "a/../b",
    f"md5:{'a' * 32}", f"sha256:{'a' * 64}/../x", f"sha256:{'a' * 62}/.", f"sha256:{'a' * 64}\n", f"../sha256:{'a' * 64}"])
def test_digests_that_are_paths(evil, client, tmp_path, digest):
    blob = Descriptor("x/y", digest, 5)
    for call in (lambda: client.pull_blob("a/b", blob, tmp_path / "x"), lambda: client.get_blob_bytes("a/b", blob),
                 lambda: client.has_blob("a/b", digest), lambda: client.get_manifest("a/b", digest),
                 lambda: client.push_blob("a/b", b"", digest, "x/y"), lambda: client.referrers("a/b", digest),
                 lambda: client.mount_blob("a/b", digest, "c/d"), lambda: client.delete_blob("a/b", digest)):
        with pytest.raises(InvalidInput):
            call()
    assert not evil.requests
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["config", "layers", "subject"])
def test_manifest_with_digests_that_are_paths(evil, answer, tmp_path, part):
    """oras-py 0.2.43 wrote such a layer to any place of the disk."""
    bad = {"mediaType": "x/y", "digest": "sha256:../../../../pwn", "size": 3}
    document = {"schemaVersion": 2, "mediaType": media.MANIFEST, part: [bad] if part == "layers" else bad}
    data = json.dumps(document).encode()
    evil.behave = lambda h: answer(h, 200 if "/manifests/x" in h.path else 404, data, Content_Type=media.MANIFEST)
    with pytest.raises(InvalidInput, match="not a digest"):
        copy(parse(f"oci://{evil.host}/a/b:x"), LayoutEntry(tmp_path / "out"))
    assert not list(tmp_path.rglob("*pwn*"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 200_000, b"\xff\xfe"])
def test_manifest_that_is_no_object(evil, client, answer, body):
    evil.behave = lambda h: answer(h, 200, body)
    with pytest.raises(Permanent, match="not a JSON object"):
        client.get_manifest("a/b", "tag")


@pytest.mark.parametrize("call", [
    lambda c: c.ping(), lambda c: c.get_manifest("a/b", "x"), lambda c: c.tags("a/b"), lambda c: c.repositories(),
    lambda c: c.referrers("a/b", BLOB.digest), lambda c: c.push_manifest("a/b", "x", MANIFEST, media.MANIFEST),
    lambda c: c.delete_manifest("a/b", "x"), lambda c: c.mount_blob("a/b", BLOB.digest, "c/d"),
    lambda c: c.get_blob_bytes("a/b", BLOB)])
@pytest.mark.parametrize("status", [200, 202, 404, 500])
def test_every_answer_is_bounded(evil, call, status):
    """GHSA-f36w-mj3v-6jqv: error messages and answers that nobody reads are bodies too."""
    def endless(handler):
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.close_connection = True
        while not evil.stop.is_set():
            handler.wfile.write(b" " * 65536)

    evil.behave = endless
    with RegistryClient(evil.host, timeout=Timeouts(2, 1), retries=RetryPolicy(attempts=1)) as client, \
            pytest.raises(Permanent, match="more than the expected"):
        call(client)


def test_compressed_bombs_are_refused(evil, client, answer, tmp_path):
    evil.behave = lambda h: answer(h, 200, b"\x1f\x8b", Content_Encoding="gzip", Content_Length=str(len(DATA)))
    refused(client, tmp_path, Permanent, "compressed")


LISTS = {
    "tags": (lambda c: c.tags("a/b"), {"tags": ["t"] * 500}),
    "repositories": (lambda c: c.repositories(), {"repositories": ["r"] * 500}),
    "referrers": (lambda c: c.referrers("a/b", BLOB.digest), {"manifests": [BLOB.to_json()]}),
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("circle", [False, True], ids=["ever-new", "circle"])
def test_lists_without_end(evil, client, answer, kind, circle):
    call, page = LISTS[kind]

    def behave(handler):
        following = 0 if circle else len(evil.requests)
        answer(handler, 200, json.dumps(page).encode(), Link=f'<{handler.path.partition("?")[0]}?last={following}>; rel="next"')

    evil.behave = behave
    with pytest.raises(Permanent, match="does not end"):
        call(client)
    assert len(evil.requests) <= (2 if circle else 1000)


def test_lists_of_a_few_giants(evil, client, answer):
    """Few pages, few entries, and more memory than anybody has."""
    def behave(handler):
        body = json.dumps({"tags": ["x" * 4_000_000]}).encode()
        answer(handler, 200, body, Link=f'</v2/a/b/tags/list?last={len(evil.requests)}>; rel="next"')

    evil.behave = behave
    with pytest.raises(Permanent, match="does not end after 9 pages"):
        client.tags("a/b")


def test_names_that_are_none_are_left_out(evil, client, answer):
    names = ["../x", "a b", "", "x\x1b[31m", "ok", 5, None, "a\n", "-x", "y" * 300]
    evil.behave = lambda h: answer(h, 200, json.dumps({"tags": names, "repositories": names}).encode())
    assert client.tags("a/b") == ["ok"]
    assert client.repositories() == ["ok"]


def test_a_page_of_referrers_over_the_limit(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, json.dumps({"manifests": [BLOB.to_json()] * 40_000}).encode())
    with pytest.raises(Permanent, match="4194304"):
        client.referrers("a/b", BLOB.digest)


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


@pytest.fixture
def encrypted(stranger, tmp_path):
    """A server with TLS and a certificate that its own file vouches for."""
    server = type(stranger)()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                   .serial_number(7).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
                   .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
                   .sign(key, hashes.SHA256()))
    (tmp_path / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                         serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.wrap(context)
    server.ca = str(tmp_path / "ca.pem")
    yield server
    server.close()


def over_tls(server, **more):
    return RegistryClient(f"localhost:{server.port}", insecure=False, retries=QUICK, credentials=ME, **more)


def test_a_certificate_that_nobody_vouches_for(encrypted, answer):
    encrypted.behave = lambda h: answer(h, 200, b"{}")
    before = time.monotonic()
    with over_tls(encrypted) as client, pytest.raises(Permanent, match="not secure"):
        client.ping()
    assert time.monotonic() - before < 2
    assert not encrypted.requests
    with over_tls(encrypted, ca_bundle=encrypted.ca) as client:
        client.ping()
    with RegistryClient(f"127.0.0.1:{encrypted.port}", insecure=False, ca_bundle=encrypted.ca) as client, \
            pytest.raises(Permanent, match="not secure"):
        client.ping()  # the certificate is for localhost


def test_redirect_from_https_to_http(encrypted, stranger, answer, tmp_path):
    """GHSA-vh4v-2xq2-g5cg: neither the password nor the request itself goes where anybody can read it."""
    encrypted.behave = with_basic(answer, lambda h: answer(h, 307, Location=f"http://{stranger.host}/x"))
    with over_tls(encrypted, ca_bundle=encrypted.ca) as client, pytest.raises(Permanent, match="not encrypted"):
        client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert not stranger.requests


def test_redirect_to_another_scheme_carries_no_credentials(evil, encrypted, answer, tmp_path):
    evil.behave = with_basic(answer, lambda h: answer(h, 307, Location=f"https://localhost:{encrypted.port}/x"))
    encrypted.behave = lambda h: answer(h, 200, DATA)
    with RegistryClient(evil.host, credentials=ME, ca_bundle=encrypted.ca) as client:
        client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert [headers.get("Authorization") for _, _, headers in encrypted.requests] == [None]


def test_credentials_of_one_registry_are_not_for_another(evil, stranger, answer, tmp_path, monkeypatch):
    """Another port is another registry."""
    encoded = base64.b64encode(b"me:top-secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {evil.host: {"auth": encoded}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for server in (evil, stranger):
        server.behave = with_basic(answer, lambda h: answer(h, 200, b"{}"))
    with RegistryClient(evil.host) as ours, RegistryClient(stranger.host, retries=QUICK) as theirs:
        ours.ping()
        with pytest.raises(Permanent, match="401"):
            theirs.ping()
        with pytest.raises(Permanent, match="sends the client to"):
            ours.do_request(f"http://{stranger.host}/v2/")
    assert evil.requests[-1][2]["Authorization"] == ME.basic
    assert all("Authorization" not in headers for _, _, headers in stranger.requests)


def test_cookies_are_not_kept(evil, client, answer):
    evil.behave = lambda h: answer(h, 200, b"{}", Set_Cookie="session=1; Path=/")
    client.ping()
    client.ping()
    assert all("Cookie" not in headers for _, _, headers in evil.requests)


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


def test_bearer_is_not_sent_to_a_foreign_upload_location(evil, stranger, client, answer):
    def behave(handler):
        if handler.path.startswith("/token"):
            return answer(handler, 200, b'{"token": "bearer-secret"}')
        if not handler.headers.get("Authorization"):
            return answer(handler, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token"')
        if handler.command == "HEAD":
            return answer(handler, 404)
        return answer(handler, 202, Location=f"//{stranger.host}/v2/upload/1")

    evil.behave = behave
    for data in (b"small", DATA):
        with pytest.raises(Permanent, match="sends the client to"):
            client.push_blob("a/b", data, digest_bytes(data), "x/y")
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


@pytest.mark.parametrize("realm", [
    "http://169.254.169.254/latest/meta-data", "https://169.254.169.254/x", "https://[fe80::1]/t", "https://127.0.0.1/t",
    "https://localhost/t", "https://0.0.0.0/t", "http://r.io/t", "ftp://r.io/t", "file:///etc/passwd", "", "//r.io/t",
    "https://me:pw@r.io/t", "https://[::ffff:169.254.169.254]/t"])
def test_realms_that_nobody_is_sent_to(realm):
    """Not even without a password: the request alone can do harm."""
    def fetch(url, headers, form):
        raise AssertionError(url)

    for credentials in (None, ME):
        with pytest.raises(Permanent):
            Authorizer(origin_of("https://r.io"), lambda _, c=credentials: c, fetch).answer(
                f'Bearer realm="{realm}"', "a/b", "pull")


def test_token_server_that_redirects(evil, stranger, client, answer):
    evil.behave = lambda h: answer(h, 307, Location=f"http://{stranger.host}/t") if h.path.startswith("/token") else \
        answer(h, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token"')
    with pytest.raises(Permanent, match="401"):
        client.ping()
    assert not stranger.requests


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"token": 5}', b'{"token": "a\\nb"}', b" " * (5 << 20),
                                  b'{"token": "a", "token": "b"}'])
def test_token_server_that_talks_nonsense(evil, client, answer, body):
    evil.behave = lambda h: answer(h, 200, body) if h.path.startswith("/token") else \
        answer(h, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token"')
    with pytest.raises(Permanent):
        client.ping()


@pytest.mark.parametrize("challenge", ["", "Basic", "Bearer", "Negotiate abc", 'Bearer realm="', "Digest x=1", "," * 9000])
def test_challenges_that_cannot_be_met(evil, answer, challenge):
    evil.behave = lambda h: answer(h, 401, WWW_Authenticate=challenge)
    with RegistryClient(evil.host, retries=QUICK, credentials=Credentials("", identity_token="x")) as client, \
            pytest.raises(Permanent):
        client.ping()
    assert len(evil.requests) <= 2


def test_the_stronger_of_two_challenges_is_answered(evil, client, answer):
    def behave(handler):
        if handler.path.startswith("/token"):
            return answer(handler, 200, b'{"token": "t"}')
        return answer(handler, 200 if handler.headers.get("Authorization") == "Bearer t" else 401, b"{}",
                      WWW_Authenticate=f'Basic realm="x", Bearer realm="http://{evil.host}/token",service="a, b"')

    evil.behave = behave
    client.ping()
    assert "service=a%2C+b" in evil.requests[1][1]


def test_a_token_for_pulling_is_not_used_for_pushing(evil, client, answer):
    def behave(handler):
        if handler.path.startswith("/token"):
            return answer(handler, 200, json.dumps({"token": "push" if "push" in handler.path else "pull"}).encode())
        right = "pull" if handler.command == "GET" else "push"
        if handler.headers.get("Authorization") == f"Bearer {right}":
            return answer(handler, 200 if handler.command == "GET" else 201, MANIFEST, Content_Type=media.MANIFEST)
        return answer(handler, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token",scope="r:a/b:{right}"')

    evil.behave = behave
    client.get_manifest("a/b", "x")
    client.push_manifest("a/b", "x", MANIFEST, media.MANIFEST)
    client.get_manifest("a/b", "x")
    assert [h.get("Authorization") for m, p, h in evil.requests if m == "PUT"] == [None, "Bearer push"]
    assert sum(p.startswith("/token") for _, p, _ in evil.requests) == 2


def test_debug_logs_hold_no_secrets(evil, stranger, answer, tmp_path, caplog):
    """GHSA-5jhf-2qmf-m8c5: passwords, tokens, keys of upload sessions, signatures of storage."""
    caplog.set_level("DEBUG")

    def behave(handler):
        if handler.path.startswith("/token"):
            return answer(handler, 200, b'{"token": "bearer-secret"}')
        if not handler.headers.get("Authorization"):
            return answer(handler, 401, WWW_Authenticate=f'Bearer realm="http://{evil.host}/token?q=realm-secret"')
        if handler.command in ("HEAD", "DELETE"):
            return answer(handler, 404)
        if handler.command == "GET":
            return answer(handler, 307, Location=f"http://{stranger.host}/storage?signature=storage-secret")
        return answer(handler, 201 if handler.command == "PUT" else 202, Location="/v2/upload?_state=session-secret")

    evil.behave = behave
    stranger.behave = lambda h: answer(h, 200, DATA)
    with RegistryClient(evil.host, credentials=ME) as client:
        client.push_blob("a/b", DATA, BLOB.digest, "x/y")
        client.push_blob("a/b", b"small", digest_bytes(b"small"), "x/y")
        client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert f"/v2/a/b/blobs/{BLOB.digest} -> 307" in caplog.text
    for secret in ("top-secret", "-secret", ME.basic[6:]):
        assert secret not in caplog.text


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


def raw_server(talk):
    """A server that says what a test wants, byte by byte; returns its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError), listener:
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    talk(connection)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}", listener


def gives_up(talk, call, seconds=8):
    host, listener = raw_server(talk)
    before = time.monotonic()
    try:
        with RegistryClient(host, timeout=Timeouts(1, 0.5), retries=RetryPolicy(attempts=1)) as client, \
                pytest.raises((Retryable, Permanent)):
            call(client)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
    assert time.monotonic() - before < seconds


def dripping(text):
    def talk(connection):
        connection.recv(65536)
        for _ in range(200):
            connection.sendall(text)
            time.sleep(0.1)
    return talk


@pytest.mark.parametrize("text", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"],
                         ids=["status", "header", "interim"])
def test_headers_in_drops_are_a_timeout(text):
    gives_up(dripping(text), lambda client: client.ping())


def test_interim_answers_without_end():
    def talk(connection):
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)

    gives_up(talk, lambda client: client.ping())


def test_trailers_without_end():
    def talk(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        while True:
            connection.sendall(b"X: y\r\n" * 100)

    gives_up(talk, lambda client: client.ping())


@pytest.mark.parametrize("text", [
    b"", b"\0" * 200_000, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"HTTP/1.1 200 " + b"x" * 200_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.1 999999 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxx\r\n"])
def test_what_is_not_http_is_an_error(text):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(text)

    gives_up(talk, lambda client: client.get_manifest("a/b", "x"))


def test_a_server_that_reads_nothing_is_a_timeout():
    def talk(connection):
        request = connection.recv(200)
        if request.startswith(b"HEAD"):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            request = connection.recv(4096)
        if request.startswith(b"POST"):
            connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nLocation: /v2/u/1\r\n\r\n")
            connection.recv(100)
        time.sleep(15)

    data = b"x" * (32 << 20)
    gives_up(talk, lambda client: client.push_blob("a/b", data, digest_bytes(data), "x/y"))


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
