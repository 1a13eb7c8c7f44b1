from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import uvicorn

from fuseml_oci.client import RegistryClient
from fuseml_registry.app import standalone_app

_MAIN = """
import sys, uvicorn, resource
from fuseml_registry.app import standalone_app
limit = int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
app = standalone_app({"root": sys.argv[1]})
uvicorn.run(app, fd=int(sys.argv[2]), log_level="warning")
"""


class Server:
    """A registry on a loopback port, in a thread of the test."""

    def __init__(self, root: Path, **config: object) -> None:
        self.root = root
        self._server = uvicorn.Server(uvicorn.Config(standalone_app({"root": root, **config}), log_level="warning",
                                                     lifespan="off"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.host}/v2"
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def http(server: Server) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def client(server: Server) -> Iterator[RegistryClient]:
    with RegistryClient(server.host) as connected:
        yield connected


@pytest.fixture
def serve():
    """Make a server with its own configuration."""
    return Server


@contextmanager
def _process(root: Path, file_limit: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen([sys.executable, "-c", _MAIN, str(root), str(fd), str(file_limit)],
                                   pass_fds=[fd], env=environment)
    url = f"http://127.0.0.1:{port}/v2"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"{url}/", timeout=5)
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def process():
    """Start a server as a process of its own."""
    return _process
