"""Services: a socket of their own, readiness, failure, limits."""

from __future__ import annotations

import http.client
import os
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fuseml_sdk.errors import InvalidInput

UNIX = """
import http.server, os, socket, socketserver, sys, time
assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
began = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = time.monotonic() - began > float(os.environ.get("SLOW", "0"))
        self.send_response(200 if ready else 503); self.end_headers(); self.wfile.write(b"hello")
    def address_string(self): return "unix"
class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    def __init__(self):
        socketserver.BaseServer.__init__(self, "", Handler); self.socket = socket.socket(fileno=3)
    def get_request(self): return self.socket.accept()[0], ("unix", 0)
server = Server(); server.serve_forever()
"""
TCP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["FUSEML_SERVICE_PORT"])), Handler).serve_forever()
"""


def ask(path: str) -> int:
    with closing(http.client.HTTPConnection("localhost", timeout=5)) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(path)
        connection.request("GET", "/")
        return connection.getresponse().status


def test_r112_a_service_is_ready_on_its_socket(bench: Any) -> None:
    name = bench.submit(UNIX, kind="service", service={})
    status = bench.until(name, "ready")
    assert status.state == "ready", status
    path = status.endpoint.removeprefix("unix:")
    assert ask(path) == 200
    assert Path(path).stat().st_mode & 0o077 == 0
    assert len(path) <= 103
    bench.plugin.agent_cancel(name, 5)
    assert bench.until(name).state == "cancelled"
    assert not Path(path).exists()


def test_readiness_waits_for_200(bench: Any) -> None:
    name = bench.submit(UNIX, kind="service", service={}, env={"SLOW": "0.7"})
    began = time.monotonic()
    assert bench.until(name, "ready").state == "ready"
    assert time.monotonic() - began > 0.7


def test_a_service_on_tcp(bench: Any) -> None:
    name = bench.submit(TCP, kind="service", service={"listen": "tcp"})
    status = bench.until(name, "ready")
    assert status.endpoint.startswith("http://127.0.0.1:")


def test_a_service_that_dies_before_it_is_ready(bench: Any) -> None:
    name = bench.submit("print('no model'); raise SystemExit(4)", kind="service", service={})
    status = bench.until(name)
    assert (status.state, status.reason, status.exit_code) == ("failed", "ExitCode", 4)
    assert status.log_tail == ["no model"]


def test_a_service_that_never_gets_ready(bench: Any) -> None:
    name = bench.submit(UNIX, kind="service", service={"start_timeout": 0.6}, env={"SLOW": "1000"})
    status = bench.until(name)
    assert (status.state, status.reason) == ("failed", "NotReady")
    assert "503" in status.message


def test_a_ready_service_that_dies_is_noticed(bench: Any) -> None:
    name = bench.submit(UNIX.replace("server.serve", "print(os.getpid(), flush=True); server.serve"), kind="service",
                        service={})
    status = bench.until(name, "ready")
    os.kill(int(bench.log(name).split()[0]), 9)
    ended = bench.until(name)
    assert (ended.state, ended.reason, ended.signal, ended.endpoint) == ("failed", "Signal", 9, None)
    with pytest.raises(OSError):
        ask(status.endpoint.removeprefix("unix:"))


def test_services_survive_the_agent(bench: Any) -> None:
    name = bench.submit(UNIX, kind="service", service={})
    endpoint = bench.until(name, "ready").endpoint
    bench.start()
    again = bench.plugin.agent_status([name])[0]
    assert (again.state, again.endpoint) == ("ready", endpoint)
    assert ask(endpoint.removeprefix("unix:")) == 200


def test_services_beyond_the_limit_are_refused_and_replacements_are_not(bench: Any) -> None:
    for number in (1, 2):
        bench.submit(UNIX, kind="service", service={}, labels={"project": "p", "service": f"s{number}"})
    with pytest.raises(InvalidInput, match="at most 2"):
        bench.submit(UNIX, kind="service", service={}, labels={"project": "p", "service": "s3"})
    bench.submit(UNIX, kind="service", service={}, labels={"project": "p", "service": "s2"})
    assert bench.run("pass").state == "succeeded"
