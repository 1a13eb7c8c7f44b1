"""The client against our real registry (R65, R9: any OCI registry is a back-end of runnables)."""

from __future__ import annotations

import os
import threading

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import parse
from fuseml_oci.retries import RetryPolicy
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, Retryable, Unsupported

DATA = os.urandom(5_000_000)
DIGEST = digest_bytes(DATA)


def document(*layers: Descriptor, **more: object) -> bytes:
    config = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
    return canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "config": config,
                           "layers": [d.to_json() for d in layers], **more})


@pytest.fixture
def pushed(client, tmp_path):
    file = tmp_path / "source"
    file.write_bytes(DATA)
    client.push_blob("some/thing", b"{}", media.EMPTY_DIGEST, media.EMPTY)
    return client.push_blob("some/thing", file, DIGEST, "x/y")


def test_r65_push_and_pull(client, pushed, tmp_path):
    assert pushed == Descriptor("x/y", DIGEST, len(DATA))
    data = document(pushed)
    digest = client.push_manifest("some/thing", "1.0.0", data, media.MANIFEST)
    assert digest == digest_bytes(data)
    for reference in ("1.0.0", digest):
        assert client.get_manifest("some/thing", reference) == (data, media.MANIFEST, digest)
        assert client.has_manifest("some/thing", reference)
        assert client.resolve("some/thing", reference).artifact_type == "a/b"
    client.pull_blob("some/thing", pushed, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "source"]
    assert client.get_blob_bytes("some/thing", Descriptor(media.EMPTY, media.EMPTY_DIGEST, 2)) == b"{}"
    assert "1.0.0" in client.tags("some/thing")
    assert "some/thing" in client.repositories()
    client.ping()


def test_sha512_and_empty(client, tmp_path):
    for data in (b"", DATA):
        blob = client.push_blob("s/512", data, digest_bytes(data, "sha512"), "x/y")
        client.pull_blob("s/512", blob, tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == data


def test_pushing_what_is_there_sends_nothing(client, pushed, monkeypatch):
    sent = []
    original = RegistryClient.do_request
    monkeypatch.setattr(RegistryClient, "do_request",
                        lambda self, url, method="GET", *a, **k: (sent.append(method), original(self, url, method, *a, **k))[1])
    client.push_blob("some/thing", DATA, DIGEST, "x/y")
    assert sent == ["HEAD"]


@pytest.mark.parametrize("data", [b"other", DATA + b"x", DATA[:-1]], ids=["other", "longer", "shorter"])
def test_a_source_without_the_digest_is_refused(client, data):
    with pytest.raises(InvalidInput, match="has the digest|have this digest|have"):
        client.push_blob("some/other", data, DIGEST, "x/y")
    assert not client.has_blob("some/other", DIGEST)


def test_r9_errors_name_registry_repository_and_digest(client, registry, tmp_path):
    missing = Descriptor("x/y", digest_bytes(b"missing"), 7)
    for call in (lambda: client.get_manifest("no/such", "tag"), lambda: client.resolve("no/such", missing.digest),
                 lambda: client.pull_blob("no/such", missing, tmp_path / "x"), lambda: client.tags("no/such"),
                 lambda: client.get_blob_bytes("no/such", missing)):
        with pytest.raises(NotFound) as error:
            call()
        assert registry.host in error.value.message
        assert "no/such" in error.value.message
    assert not list(tmp_path.iterdir())
    assert not client.has_manifest("no/such", "x")


def test_r9_a_published_version_cannot_be_replaced(client, pushed):
    client.push_manifest("some/thing", "3.1.4", document(pushed), media.MANIFEST)
    client.push_manifest("some/thing", "3.1.4", document(pushed), media.MANIFEST)
    with pytest.raises(InvalidInput, match="cannot be changed"):
        client.push_manifest("some/thing", "3.1.4", document(), media.MANIFEST)


def test_wrong_arguments_are_refused_before_anything_is_sent(client):
    for call in (lambda: client.get_manifest("UPPER", "x"), lambda: client.get_manifest("a", "sha256:../x"),
                 lambda: client.has_blob("a/../b", DIGEST), lambda: client.tags("a b"),
                 lambda: client.push_manifest("a", DIGEST, b"{}", media.MANIFEST),
                 lambda: client.push_manifest("a", "x", b"x" * (5 << 20), media.MANIFEST),
                 lambda: client.get_blob_bytes("a", Descriptor("x/y", DIGEST, 5 << 20)),
                 lambda: client.push_blob("a", b"", "sha256:zz", "x/y")):
        with pytest.raises(InvalidInput):
            call()


def test_delete(client, pushed):
    digest = client.push_manifest("some/thing", "gone", document(pushed, annotations={"a": "b"}), media.MANIFEST)
    assert client.delete_manifest("some/thing", "gone")
    assert not client.delete_manifest("some/thing", "gone")
    assert client.delete_manifest("some/thing", digest)
    assert not client.has_manifest("some/thing", digest)
    blob = client.push_blob("some/thing", b"short-lived", digest_bytes(b"short-lived"), "x/y")
    assert client.delete_blob("some/thing", blob.digest)
    assert not client.delete_blob("some/thing", blob.digest)


def test_several_threads_may_share_a_client(client, pushed, tmp_path):
    failed = []

    def work(number):
        try:
            data = os.urandom(300_000)
            blob = client.push_blob(f"threads/n{number}", data, digest_bytes(data), "x/y")
            client.pull_blob(f"threads/n{number}", blob, tmp_path / str(number))
            assert (tmp_path / str(number)).read_bytes() == data
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


def test_plain_http_only_for_loopback_or_when_asked():
    assert RegistryClient("localhost:5000").origin.scheme == "http"
    assert RegistryClient("[::1]").origin.scheme == "http"
    assert RegistryClient("localhost:5000", insecure=False).origin.scheme == "https"
    assert RegistryClient("registry.example.org").origin.scheme == "https"
    assert RegistryClient("127.0.0.1.example.org").origin.scheme == "https"
    assert RegistryClient("registry.example.org", insecure=True).origin.scheme == "http"
    assert RegistryClient.for_reference(parse("oci://ghcr.io/a:1")).origin.scheme == "https"
    assert RegistryClient.for_url("http://10.0.0.1:80").origin.scheme == "http"
    for url in ("ftp://h", "http://u:p@h", "http://h/path", "h:80"):
        with pytest.raises(InvalidInput):
            RegistryClient.for_url(url)


def test_unverified_methods_of_oras_are_closed(client, registry):
    for call in (client.pull, client.push, client.login, client.download_blob, client.upload_blob, client.put_upload,
                 client.chunked_upload, client.upload_manifest):
        with pytest.raises(Unsupported):
            call(f"{registry.host}/some/thing:1.0.0")


def test_nobody_there_is_retryable_and_quick():
    with RegistryClient("127.0.0.1:9", retries=RetryPolicy(attempts=3, base=0.01)) as client, \
            pytest.raises(Retryable, match="cannot be reached"):
        client.ping()


def test_plain_http_server_behind_https_is_an_error_not_a_downgrade(registry):
    policy = RetryPolicy(attempts=1)
    with RegistryClient(registry.host, insecure=False, retries=policy) as client, \
            pytest.raises((Permanent, Retryable)):
        client.ping()
