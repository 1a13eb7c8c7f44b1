"""Answers of plugins in any language: framed by length, in chunks, by the end of the connection, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time

import pytest

from fuseml_core.host.answers import Lost, Receiver, encode
from fuseml_core.host.streams import TcpStream, UnixStream
from fuseml_core.host.transport import RESTED, ConnectionPool
from fuseml_sdk.errors import Internal

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"


@pytest.fixture(params=["unix", "tcp"])
def pair(request, tmp_path):
    """A connection of the host, and its other side."""
    listener = socket.socket(socket.AF_UNIX if request.param == "unix" else socket.AF_INET)
    with listener:
        listener.bind(str(tmp_path / "s") if request.param == "unix" else ("127.0.0.1", 0))
        listener.listen()
        if request.param == "unix":
            ours = UnixStream(tmp_path / "s", 30)
        else:
            ours = TcpStream(http.client.HTTPConnection(*listener.getsockname()), 30)
        theirs, _ = listener.accept()
    with theirs:
        yield ours, theirs
    ours.close()


def _receive(pair, raw, *, end=True, piece=7, seconds=30.0):
    """What the host makes of bytes that come in small pieces."""
    ours, theirs = pair

    def send():
        with contextlib.suppress(OSError):  # who has read enough hangs up
            for start in range(0, len(raw), piece):
                theirs.sendall(raw[start:start + piece])
            if end:
                theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return Receiver(ours, time.monotonic() + seconds).receive()
    finally:
        ours.hang_up()
        thread.join(30)


@pytest.mark.parametrize(("raw", "body", "keep"), [
    (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    (HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello", b"hello", False),
    (HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
    (HEAD + b"\r\nhello", b"hello", False),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\n\r\n", b"hello", True),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", b"0123456789", True),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    (HEAD + b"Content-Length: 5\r\n\r\nhello and more that nobody asked for", b"hello", False),
])
@pytest.mark.parametrize("piece", [1, 1000])
def test_answers_are_read_however_they_are_framed(pair, raw, body, keep, piece):
    answer, again = _receive(pair, raw, piece=piece)
    assert (answer.status, answer.media_type, answer.body) == (200, "application/json; charset=utf-8", body)
    assert again is keep or piece == 1  # what comes too much may not be there yet


@pytest.mark.parametrize(("raw", "text"), [
    (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP: b'SSH-2.0"),
    (b"HTTP/2 200\r\n\r\n", "no HTTP"),
    (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP"),
    (b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "a header that is none"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "content-length that is no number"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "99999999999 bytes or more"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "chunk whose size is no number"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n", "at most 67108864 are read"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2xx\r\nab\r\n", "chunk whose size is no number"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n", "longer than its size"),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nab\r\n0\r\n\r\n", "in chunks and"),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc", "two values of content-length"),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
    (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nab", "content encoding b'gzip'"),
    (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", "in the head of its answer"),
])
def test_what_is_no_answer_is_told(pair, raw, text):
    with pytest.raises(Internal, match=text):
        _receive(pair, raw, piece=1 << 20)


@pytest.mark.parametrize(("raw", "text"), [
    (b"", "before the answer"), (b"HTTP/1.1 200", "within the answer"),
    (HEAD + b"Content-Length: 5\r\n\r\nhe", "within the answer"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", "within the answer"),
])
def test_an_answer_that_ends_too_early_is_lost(pair, raw, text):
    with pytest.raises(Lost, match=text):
        _receive(pair, raw)


def test_the_deadline_is_one_for_the_whole_answer(pair):
    with pytest.raises(TimeoutError):
        _receive(pair, HEAD + b"Content-Length: 5\r\n\r\nhe", end=False, seconds=0.2)


def test_a_request_is_written_whole():
    assert encode("POST", "/v1/hooks/x", "plugin", {"fuseml-call-id": "1"}, b"{}") == (
        b"POST /v1/hooks/x HTTP/1.1\r\nhost: plugin\r\nfuseml-call-id: 1\r\ncontent-length: 2\r\n\r\n{}")
    assert encode("GET", "/healthz", "[::1]:80", {}, None).endswith(b"host: [::1]:80\r\n\r\n")


def test_a_limit_of_time_holds_for_each_wait_however_long_the_one_before_was(pair):
    ours, theirs = pair
    for seconds in (0.01, 30.0, 0.2, None, 0.05, 0.04):
        if seconds in (30.0, None):
            theirs.sendall(b"x")
            assert ours.receive(10, seconds) == b"x"
        else:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                ours.receive(10, seconds)
            assert time.monotonic() - began >= seconds


def test_what_nobody_reads_is_not_sent_for_ever(pair):
    ours, theirs = pair
    with pytest.raises(TimeoutError):
        ours.send(b"x" * (1 << 26), 0.2)
    ours.hang_up()
    assert theirs.recv(10) == b"x" * 10


def test_who_waits_wakes_up_when_the_connection_is_ended(pair):
    ours, _ = pair
    got = []
    thread = threading.Thread(target=lambda: got.append(ours.receive(10, None)))
    thread.start()
    ours.hang_up()
    thread.join(30)
    assert got == [b""]


def test_a_connection_on_which_something_came_unasked_is_not_quiet(pair):
    ours, theirs = pair
    assert ours.is_quiet()
    theirs.sendall(b"late")
    _until(lambda: not ours.is_quiet())
    assert ours.receive(10, 30) == b"late"
    assert ours.is_quiet()
    theirs.shutdown(socket.SHUT_WR)
    _until(lambda: not ours.is_quiet())


def test_a_connection_that_was_closed_while_it_rested_is_not_used_again(tmp_path):
    answered = []

    def serve():
        for _ in range(3):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            answered.append(True)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        pool = ConnectionPool(lambda seconds: UnixStream(tmp_path / "s", seconds))
        for number in range(3):
            assert pool.request("POST", "/", b"{}", {}, 30).body == b"{}"
            _until(lambda: len(answered) > number)  # noqa: B023
            time.sleep(2 * RESTED)  # Sooner it may be taken for open still.
        pool.close()
        thread.join(30)


def _until(holds):
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
