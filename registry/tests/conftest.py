from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
import requests
import uvicorn

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.digests import digest_bytes
from fuseml_registry.app import standalone_app

Install = Callable[[tuple[str, str, str]], Path]
Run = Callable[..., str]
_MAIN = """
import json, sys, uvicorn, resource
from fuseml_registry.app import standalone_app
limit = int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
app = standalone_app({"root": sys.argv[1], **json.loads(sys.argv[4])})
uvicorn.run(app, fd=int(sys.argv[2]), log_level="warning")
"""


class Server:
    """A registry on a loopback port, in a thread of the test."""

    def __init__(self, root: Path, *, lifespan: Literal["on", "off"] = "off", **config: object) -> None:
        self.root = root
        self._server = uvicorn.Server(uvicorn.Config(standalone_app({"root": root, **config}), log_level="warning",
                                                     lifespan=lifespan))
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


class Pusher:
    """Pushes made-up content to one repository with nothing but HTTP."""

    def __init__(self, http: requests.Session, url: str, name: str) -> None:
        self.http, self.url, self.name = http, f"{url}/{name}", name

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = digest_bytes(data)
        answer = self.http.post(f"{self.url}/blobs/uploads/", params={"digest": digest}, data=data)
        assert answer.status_code == 201, answer.text
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    def manifest(self, document: dict[str, Any], reference: str = "") -> dict[str, Any]:
        """Push by tag, or by digest without one; returns its descriptor."""
        data = json.dumps(document).encode()
        digest = digest_bytes(data)
        answer = self.http.put(f"{self.url}/manifests/{reference or digest}", data=data,
                               headers={"Content-Type": document["mediaType"]})
        assert answer.status_code == 201, answer.text
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(data)}

    def image(self, tag: str = "", *, layer: bytes | None = None, **more: Any) -> dict[str, Any]:
        """Push an image with one layer of its own."""
        config, content = self.blob(b"{}"), self.blob(os.urandom(1000) if layer is None else layer)
        return self.manifest({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": config, "layers": [content],
                              **more}, tag)

    def index(self, tag: str, *members: dict[str, Any], **more: Any) -> dict[str, Any]:
        return self.manifest({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": list(members), **more}, tag)

    def referrer(self, subject: dict[str, Any], tag: str = "") -> dict[str, Any]:
        return self.image(tag, subject=subject, artifactType="application/x")

    def has(self, manifest: dict[str, Any] | str) -> bool:
        """Whether a manifest is there, whole: with its blobs and the manifests it names."""
        digest = manifest if isinstance(manifest, str) else manifest["digest"]
        answer = self.http.get(f"{self.url}/manifests/{digest}")
        if answer.status_code == 404:
            return False
        document = answer.json()
        for entry in document.get("manifests", []):
            assert self.has(entry), f"{digest} lacks {entry['digest']}"
        for entry in [document["config"], *document["layers"]] if "config" in document else []:
            found = self.http.get(f"{self.url}/blobs/{entry['digest']}")
            assert found.status_code == 200, f"{digest} lacks {entry['digest']}"
            assert digest_bytes(found.content) == entry["digest"]
        return True

    def delete(self, reference: dict[str, Any] | str) -> None:
        reference = reference if isinstance(reference, str) else reference["digest"]
        assert self.http.delete(f"{self.url}/manifests/{reference}").status_code == 202


@pytest.fixture
def pusher(http: requests.Session) -> Callable[[str, str], Pusher]:
    """Make a pusher for the URL of a registry and a repository."""
    return lambda url, name: Pusher(http, url, name)


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


@pytest.fixture(scope="session")
def serve():
    """Make a server with its own configuration."""
    return Server


@contextmanager
def _process(root: Path, file_limit: int = 0, config: dict[str, Any] | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        process = subprocess.Popen([sys.executable, "-c", _MAIN, str(root), str(fd), str(file_limit),
                                    json.dumps(config or {})],
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


def missing(reason: str) -> NoReturn:
    """Continuous integration has Go and the module proxy; a person may do without."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Make a command from its pinned module in a directory of this test's; Go's own caches are used."""
    binaries = tmp_path_factory.mktemp("bin")

    def made(tool: tuple[str, str, str]) -> Path:
        command, package, version = tool
        go = shutil.which("go", path=f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin")
        if go is None:
            missing("Go is not installed: neither on PATH nor in /usr/local/go (https://go.dev/doc/install)")
        environment = {**os.environ, "GOBIN": str(binaries), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        if not environment.get("HOME"):
            environment |= {"GOPATH": str(binaries / "go"), "GOCACHE": str(binaries / "cache"),
                            "GOFLAGS": "-modcacherw"}
        done = subprocess.run([go, "install", f"{package}@{version}"], env=environment, capture_output=True,
                              text=True, timeout=170)
        if done.returncode:
            missing(f"`go install {package}@{version}` failed: {done.stderr.strip()[-500:]}")
        return binaries / command

    return made


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in the test's directory; returns its standard output, demands success."""
    def ran(command: Path | str, *arguments: str, stdin: str = "", **variables: str) -> str:
        environment = {**os.environ, "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path), **variables}
        found = shutil.which(command)
        if found is None:
            missing(f"{command} is not installed: apt-get install {command}")
        done = subprocess.run([found, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              input=stdin, timeout=100)
        assert done.returncode == 0, f"{command} {' '.join(arguments)}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
        return done.stdout

    return ran
