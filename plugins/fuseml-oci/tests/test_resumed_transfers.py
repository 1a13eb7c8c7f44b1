"""Large blobs over connections that break, and registries that count wrongly (distribution-spec end-5, 6, 13, 14)."""

from __future__ import annotations

import os
import re
import select
import socket
import threading
from contextlib import suppress

import pytest

from fuseml_oci import transfers, uploads
from fuseml_oci.batches import download_all, upload_all
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.retries import RetryPolicy
from fuseml_oci.transport import Timeouts
from fuseml_sdk.errors import InvalidInput, Permanent, Retryable

DATA = os.urandom(3_000_000)
BLOB = Descriptor("x/y", digest_bytes(DATA), len(DATA))
QUICK = RetryPolicy(attempts=4, base=0.01, budget=10)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    for name, value in {"RESUMABLE": 1 << 20, "CHUNK": 400_000, "MIN_CHUNK": 100_000}.items():
        monkeypatch.setattr(uploads, name, value)


class Cutting:
    """A TCP proxy that cuts connections after some bytes of what clients or the server send, as long as cuts are left."""

    def __init__(self, target, upwards=0, downwards=0):
        self.target, self.limits, self.passed = target, [upwards, downwards], [0, 0]
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.cuts = 2
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            name, _, port = self.target.rpartition(":")
            thread = threading.Thread(target=self.relay, args=(client, socket.create_connection((name, int(port)))))
            self.threads.append(thread)
            thread.start()

    def relay(self, client, server):
        counts = [0, 0]
        with client, server, suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [], 20)[0]:
                    data = ready.recv(65536)
                    way = 0 if ready is client else 1
                    if not data:
                        return
                    (server if ready is client else client).sendall(data)
                    counts[way] += len(data)
                    self.passed[way] += len(data)
                    if self.cuts and self.limits[way] and counts[way] > self.limits[way]:
                        self.cuts -= 1
                        return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture(params=["ours", "docker-registry"])
def host(request):
    return request.getfixturevalue("registry").host if request.param == "ours" else \
        request.getfixturevalue("docker_registry")


def test_uploads_and_downloads_survive_cut_connections(host, tmp_path):
    proxy = Cutting(host, upwards=1_500_000, downwards=1_200_000)
    try:
        with RegistryClient(proxy.host, retries=QUICK) as client:
            (tmp_path / "source").write_bytes(DATA)
            client.push_blob("cut/up", tmp_path / "source", BLOB.digest, "x/y")
            assert proxy.cuts < 2
            proxy.cuts = 2
            client.pull_blob("cut/up", BLOB, tmp_path / "back")
            assert proxy.cuts == 0
            assert (tmp_path / "back").read_bytes() == DATA
            assert proxy.passed[1] < 2 * len(DATA), "what had arrived is not fetched again"
    finally:
        proxy.close()


def test_our_registry_is_not_sent_again_what_it_has(registry, tmp_path):
    proxy = Cutting(registry.host, upwards=1_500_000)
    try:
        with RegistryClient(proxy.host, retries=QUICK) as client:
            client.push_blob("cut/again", DATA, BLOB.digest, "x/y")
        assert proxy.passed[0] < len(DATA) + 1_200_000
    finally:
        proxy.close()


def test_chunked_uploads_of_every_size(host):
    with RegistryClient(host) as client:
        for size in (1 << 20, (1 << 20) + 1, 1_234_567):
            data = os.urandom(size)
            client.push_blob("cut/sizes", data, digest_bytes(data), "x/y")
            assert client.get_blob_bytes("cut/sizes", Descriptor("x/y", digest_bytes(data), size)) == data


class Sessions:
    """A registry that has upload sessions and the faults that a test gives it, one for each request that sends bytes."""

    def __init__(self, evil, answer, faults=(), **headers):
        self.faults, self.headers, self.kept, self.blob, self.started = list(faults), headers, b"", None, 0
        self.evil, self.answer = evil, answer
        evil.behave = self.behave

    def behave(self, handler):
        method, body, reply = handler.command, handler.body, self.answer
        place = {"Location": "/v2/a/b/blobs/uploads/session", "Range": f"0-{max(len(self.kept) - 1, 0)}"}
        if method == "HEAD":
            return reply(handler, 200 if self.blob == DATA else 404)
        if method == "POST":
            self.kept, self.started = b"", self.started + 1
            return reply(handler, 202, **place | {"Range": "0-0"}, **self.headers)
        if method == "GET":
            return reply(handler, 404 if self.faults[:1] == ["lost"] and self.faults.pop(0) else 204, **place)
        if method == "DELETE":
            return reply(handler, 204)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, dict):
            return reply(handler, 202, **place | fault)
        if isinstance(fault, int):
            return reply(handler, fault, **place)
        if fault == "half":
            self.kept += body[:len(body) // 2]
            handler.close_connection = True
            return None
        span = re.fullmatch(r"(\d+)-(\d+)", handler.headers.get("Content-Range", "0-0"))
        if method == "PATCH" and int(span[1]) != len(self.kept):
            return reply(handler, 416, **place)
        self.kept += body
        if method == "PUT":
            self.blob = self.kept
            return reply(handler, 201 if digest_bytes(self.blob) == BLOB.digest else 400)
        return reply(handler, 202, **place | {"Range": f"0-{len(self.kept) - 1}"})


def push(evil):
    with RegistryClient(evil.host, timeout=Timeouts(2, 2), retries=QUICK) as client:
        client.push_blob("a/b", DATA, BLOB.digest, "x/y")


def sent(evil, method="PATCH"):
    return [int(headers["Content-Length"]) for used, _, headers in evil.requests if used == method]


def test_a_large_blob_is_one_stream_that_goes_on_after_a_break(evil, answer):
    server = Sessions(evil, answer, ["half"])
    push(evil)
    assert server.blob == DATA
    assert server.started == 1
    assert sent(evil)[0] == len(DATA)
    assert sum(sent(evil)[1:]) == len(DATA) - len(DATA) // 2


def test_bodies_that_something_on_the_way_refuses_get_shorter(evil, answer):
    server = Sessions(evil, answer, [413, 413])
    push(evil)
    assert server.blob == DATA
    assert sent(evil)[0] == len(DATA)
    assert max(sent(evil)[2:]) == 100_000


def test_a_small_blob_that_is_refused_whole_is_sent_in_chunks(evil, answer, monkeypatch):
    monkeypatch.setattr(uploads, "RESUMABLE", 1 << 30)
    server = Sessions(evil, answer, [413], OCI_Chunk_Min_Length="700000")
    push(evil)
    assert server.blob == DATA
    assert sent(evil, "PUT")[0] == len(DATA)
    assert {*sent(evil)[:-1]} == {700_000}, "the registry's least length is kept to"


def test_a_registry_that_has_not_written_down_the_state_yet_is_asked_again(evil, answer):
    server = Sessions(evil, answer, ["half", 404])
    push(evil)
    assert server.blob == DATA
    assert server.started == 1


def test_a_session_that_is_forgotten_at_the_end_is_begun_anew(evil, answer):
    server = Sessions(evil, answer, [{"Range": f"0-{len(DATA) - 1}"}, 404])
    push(evil)
    assert server.blob == DATA
    assert server.started == 2


def test_a_registry_without_chunks_gets_the_whole(evil, answer):
    server = Sessions(evil, answer, [405])
    push(evil)
    assert server.blob == DATA
    assert sent(evil, "PUT") == [len(DATA)]


def test_a_chunk_out_of_order_is_sent_from_where_the_registry_is(evil, answer):
    server = Sessions(evil, answer, [413, None, 416, "half", 503])
    push(evil)
    assert server.blob == DATA
    assert server.started == 1


def test_a_lost_session_is_begun_again(evil, answer):
    server = Sessions(evil, answer, ["half", "lost"])
    push(evil)
    assert server.blob == DATA
    assert server.started == 2


@pytest.mark.parametrize("claimed", ["0-99999999999", "0-9223372036854775807"])
def test_a_registry_that_claims_more_than_was_sent_is_not_believed(evil, answer, claimed):
    Sessions(evil, answer, [{"Range": claimed}])
    with pytest.raises(Permanent, match="claims"):
        push(evil)


@pytest.mark.parametrize("fault", [416, 503, {"Range": "0-0"}, {"Range": "0-1"}])
def test_an_upload_that_does_not_go_on_ends(evil, answer, fault):
    """A registry could accept one byte for ever, or none."""
    server = Sessions(evil, answer, [fault] * 10_000)
    with pytest.raises(Retryable):
        push(evil)
    assert len(evil.requests) < 200
    assert server.blob is None


def test_chunks_do_not_follow_a_location_to_another_host(evil, stranger, answer):
    """GHSA-jxpm-75mh-9fp7, in the middle of an upload."""
    Sessions(evil, answer, [{"Location": f"http://{stranger.host}/v2/steal", "Range": "0-10"}])
    with pytest.raises(Permanent, match="sends the client to"):
        push(evil)
    assert not stranger.requests


def test_a_refused_blob_is_not_sent_again(evil, answer):
    Sessions(evil, answer, [400])
    with pytest.raises(InvalidInput, match="400"):
        push(evil)
    assert len(sent(evil)) == 1


def test_a_small_blob_takes_one_request_where_that_is_allowed(evil, answer):
    evil.behave = lambda h: answer(h, 404 if h.command == "HEAD" else 201)
    with RegistryClient(evil.host) as client:
        client.push_blob("a/b", b"small", digest_bytes(b"small"), "x/y")
    assert [method for method, _, _ in evil.requests] == ["HEAD", "POST"]


def test_where_one_request_is_not_allowed_it_is_tried_once(evil, answer):
    server = Sessions(evil, answer)
    with RegistryClient(evil.host) as client:
        for data in (b"one", b"two", b"three"):
            with suppress(InvalidInput):
                client.push_blob("a/b", data, digest_bytes(data), "x/y")
    methods = [method for method, _, _ in evil.requests]
    assert methods == ["HEAD", "POST", "DELETE", "POST", "PUT", "HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]
    assert server.blob == b"three"


def test_a_download_that_was_lost_goes_on_next_time(registry, tmp_path):
    with RegistryClient(registry.host) as client:
        client.push_blob("cut/kept", DATA, BLOB.digest, "x/y")
    proxy = Cutting(registry.host, downwards=1_200_000)
    try:
        proxy.cuts = 9
        with RegistryClient(proxy.host, retries=RetryPolicy(attempts=1)) as client:
            with pytest.raises(Retryable):
                client.pull_blob("cut/kept", BLOB, tmp_path / "x", keep=True)
            left, = tmp_path.iterdir()
            assert 1_000_000 < left.stat().st_size < 1_400_000
            proxy.cuts, before = 0, proxy.passed[1]
            client.pull_blob("cut/kept", BLOB, tmp_path / "x", keep=True)
            assert proxy.passed[1] - before < 2_000_000
            assert [p.name for p in tmp_path.iterdir()] == ["x"]
            assert (tmp_path / "x").read_bytes() == DATA
    finally:
        proxy.close()


def test_a_download_that_gets_on_is_not_given_up(evil, tmp_path, monkeypatch):
    """Attempts and time are counted from the last break that brought nothing: large blobs take long and break often."""
    monkeypatch.setattr(transfers, "BUFFER", 100_000)

    def behave(handler):
        offset = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if offset else 200)
        handler.send_header("Content-Length", str(len(DATA) - offset))
        handler.send_header("Content-Range", f"bytes {offset}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(DATA[offset:offset + 150_000])
        handler.close_connection = True

    evil.behave = behave
    with RegistryClient(evil.host, retries=RetryPolicy(attempts=2, base=0.001)) as client:
        client.pull_blob("a/b", BLOB, tmp_path / "x")
    assert len(evil.requests) == 20
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_damaged_leftover_is_thrown_away(registry, tmp_path):
    with RegistryClient(registry.host) as client:
        client.push_blob("cut/kept", DATA, BLOB.digest, "x/y")
        for rest in (b"wrong" * 1000, DATA + b"more", b"x" * len(DATA), DATA):
            (tmp_path / f".{BLOB.digest[7:47]}.partial").write_bytes(rest)
            client.pull_blob("cut/kept", BLOB, tmp_path / "x", keep=True)
            assert (tmp_path / "x").read_bytes() == DATA
            assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_several_may_fetch_one_blob_into_one_place(registry, tmp_path):
    with RegistryClient(registry.host) as client:
        client.push_blob("cut/kept", DATA, BLOB.digest, "x/y")
        threads = [threading.Thread(target=client.pull_blob, args=("cut/kept", BLOB, tmp_path / "x"),
                                    kwargs={"keep": True}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert (tmp_path / "x").read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_many_blobs_at_once_and_only_what_is_missing(host, tmp_path):
    blobs = [(data, Descriptor("x/y", digest_bytes(data), len(data))) for data in (os.urandom(9000 + n)
                                                                                   for n in range(12))]
    moments = []
    with RegistryClient(host) as client:
        assert upload_all(client, "cut/many", blobs, report=moments.append) == 12
        assert (moments[-1].blobs, moments[-1].of_size) == (12, sum(len(data) for data, _ in blobs))
        assert upload_all(client, "cut/many", blobs, report=moments.append) == 0
        wanted = [(descriptor, tmp_path / str(n)) for n, (_, descriptor) in enumerate(blobs)]
        assert download_all(client, "cut/many", wanted, concurrency=3) == 12
        (tmp_path / "3").write_bytes(b"damaged")
        assert download_all(client, "cut/many", wanted) == 1
    assert [(tmp_path / str(n)).read_bytes() for n in range(12)] == [data for data, _ in blobs]


def test_the_first_failure_ends_the_others(evil, answer, tmp_path):
    """The other downloads would never end by themselves."""
    good = Descriptor("x/y", digest_bytes(b"endless"), 1 << 30)

    def behave(handler):
        if handler.path.endswith(BLOB.digest):
            answer(handler, 403)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 30))
        handler.end_headers()
        with suppress(OSError):
            while not evil.stop.wait(0.01):
                handler.wfile.write(b"x" * 65536)

    evil.behave = behave
    with RegistryClient(evil.host) as client, pytest.raises(Permanent, match="403"):
        download_all(client, "a/b", [(good, tmp_path / "a"), (BLOB, tmp_path / "b")])
