"""A real data process and real services on real sockets."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fuseml_core.launcher.requests import ask
from fuseml_core.settings import from_environment

NUMBERS = itertools.count()
#: Echoes what it was sent; a few paths behave badly on purpose.
SERVICE = """
import asyncio, json, os, sys, uvicorn

async def app(scope, receive, send):
    path = scope["path"]
    if path == "/die":
        os._exit(1)
    body, chunks = b"", 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, chunks = body + message.get("body", b""), chunks + 1
        if not message.get("more_body"):
            break
    if path == "/slow":
        await asyncio.sleep(1.0)
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for number in range(4):
            await send({"type": "http.response.body", "body": b"%d\\n" % number, "more_body": True})
            await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b""})
        return
    if path == "/cut":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
        os._exit(1)
    if path == "/wait":
        open(sys.argv[1] + ".waiting", "w").close()
        while (await receive())["type"] != "http.disconnect":
            pass
        open(sys.argv[1] + ".gone", "w").close()
        return
    answer = json.dumps({"who": sys.argv[2], "method": scope["method"], "path": path, "length": len(body),
                         "query": scope["query_string"].decode(), "raw": scope["raw_path"].decode(),
                         "headers": [[k.decode(), v.decode()] for k, v in scope["headers"]]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode()),
        (b"connection", b"x-hop"), (b"x-hop", b"1"), (b"x-kept", b"1")]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})

uvicorn.run(app, uds=sys.argv[1], log_level="error", lifespan="off", timeout_graceful_shutdown=3)
"""


def wait_until(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
    return found


def connects(path):
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


@dataclass
class Process:
    process: subprocess.Popen
    endpoint: str = ""

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@dataclass
class DataProcess:
    """The data process of one FUSEML_HOME."""

    settings: object
    port: int
    process: subprocess.Popen
    services: list = field(default_factory=list)

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, **options):
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {}, **options)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, **options):
        status, _, data = self.request(method, path, body, headers, **options)
        return status, json.loads(data)

    def route(self, **services):
        """Put routes in force: name=Process, name=None (starting)."""
        table = {f"p/{name}": {"endpoint": s.endpoint if s else None, "instance": f"fz-{name}-{id(s)}"}
                 for name, s in services.items()}
        ask(self.settings.data_socket, "PUT", "/internal/routes", {"version": 1, "services": table})
        return {name: entry["instance"] for (name, entry) in zip(services, table.values(), strict=True)}

    def service(self, name="a"):
        path = self.settings.runtime_dir / f"s{next(NUMBERS)}.sock"
        process = subprocess.Popen([sys.executable, "-c", SERVICE, str(path), name])
        self.services.append(process)
        wait_until(lambda: connects(path))
        return Process(process, f"unix:{path}")


@pytest.fixture(scope="module")
def home():
    folder = tempfile.mkdtemp(prefix="fz", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(home):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FUSEML_") and k != "PYTHONDONTWRITEBYTECODE"}
    runtime = home / "run-dir"
    runtime.mkdir(mode=0o700)
    return {**kept, "FUSEML_HOME": str(home / "home"), "FUSEML_PORT": "0", "XDG_RUNTIME_DIR": str(runtime),
            "FUSEML_DOMAIN": "ml.example.org"}


@pytest.fixture(scope="module")
def data_process(environment):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = from_environment(environment)
        process = subprocess.Popen([sys.executable, "-m", "fuseml_core.gateway", "--tcp-fd", str(listener.fileno())],
                                   env=environment, pass_fds=[listener.fileno()])
    wait_until(lambda: connects(settings.data_socket))
    started = DataProcess(settings, port, process)
    yield started
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture
def data(data_process):
    """The module's data process with no routes; services that a test starts end with it."""
    yield data_process
    ask(data_process.settings.data_socket, "PUT", "/internal/routes", {"version": 0, "services": {}})
    for service in data_process.services:
        service.kill()
        service.wait(10)
    data_process.services.clear()
