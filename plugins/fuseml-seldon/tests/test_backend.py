"""The process behind the server: started on a socket, asked again after it let go of a connection, ended."""

from __future__ import annotations

import http.client
import os
import sys
import threading
from pathlib import Path

import pytest

from fuseml_seldon.backend import Backend

#: A server that closes each connection after `argv[1]` requests, and ends with its standard input.
PROGRAM = """
import http.server, os, socket, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0
    def do_POST(self):
        self.count += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"count": %d, "environment": "%s"}' % (self.count, os.environ.get("VIRTUAL_ENV", "none").encode())
        self.send_response(200 if self.path == "/predict" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.count == int(sys.argv[1]):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
    do_GET = lambda self: (self.send_response(200), self.send_header("Content-Length", "0"), self.end_headers())
    log_message = lambda *_: None
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self): pass
server = Server(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.get_request = lambda: (server.socket.accept()[0], ("", 0))
server.serve_forever()
"""


@pytest.fixture
def backend():
    """Started by `run`, ended by the fixture."""
    made = []

    def run(*arguments: str) -> Backend:
        made.append(Backend([sys.executable, "-c", *arguments]))
        made[-1].start()
        return made[-1]

    yield run
    for each in made:
        each.end(10.0)


def test_it_is_asked_on_a_kept_connection_and_on_a_new_one_when_that_has_ended(backend):
    asked = backend(PROGRAM, "3")
    assert asked.wait_until_ready()
    counts = [asked.ask("POST", "/predict", [1]).document["count"] for _ in range(7)]
    assert counts == [1, 2, 3, 1, 2, 3, 1]
    assert asked.ask("POST", "/nothing", [1]).error == "the model answered with 404"


def test_each_thread_has_a_connection_of_its_own(backend):
    asked, counts = backend(PROGRAM, "0"), []
    threads = [threading.Thread(target=lambda: counts.append(asked.ask("POST", "/predict", [1]).document["count"]))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [1] * 8


def test_it_does_not_see_our_virtual_environment(backend, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    assert backend(PROGRAM, "0").ask("POST", "/predict", [1]).document["environment"] == "none"


def test_one_that_ends_before_it_is_ready_is_noticed(backend):
    asked = backend("import sys; sys.exit(7)")
    assert not asked.wait_until_ready()
    assert asked.wait() == 7


def test_its_end_is_ours(backend):
    """The lifeline is enough; the socket's folder goes, too."""
    asked = backend(PROGRAM, "0")
    assert asked.wait_until_ready()
    asked.end(30.0)
    assert asked.exit_code == 0
    with pytest.raises((OSError, http.client.HTTPException)):
        asked.ask("POST", "/predict", [1])


def test_one_that_does_not_end_is_killed(backend):
    asked = backend("import time; print('up', flush=True); time.sleep(600)")
    asked.end(0.2)
    assert asked.exit_code == -9


def test_the_path_of_the_socket_is_short_wherever_temporary_files_go(backend, tmp_path, monkeypatch):
    import tempfile

    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    asked = backend(PROGRAM, "0")
    assert asked.wait_until_ready()
    assert list(deep.iterdir()) == []
    folder = Path(asked._address).parent
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, os.getuid())
