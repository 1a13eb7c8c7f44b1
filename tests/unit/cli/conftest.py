"""A small HTTP server on the Unix socket where the CLI looks for the local server; it answers what a test tells it."""

from __future__ import annotations

import json
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from fuseml_core.cli import main
from fuseml_core.settings import Settings, from_environment

Answer = tuple[int, Any]


class Api:
    """Answers by `METHOD /path`; a list gives one answer after the other, the last one for good."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[tuple[str, Any]] = []

    def on(self, request: str, *answers: Any) -> None:
        self.answers[request] = list(answers)

    def answer(self, method: str, path: str, body: Any) -> Answer:
        self.asked.append((f"{method} {path}", body))
        bare = path.partition("?")[0]
        queue = self.answers.get(f"{method} {bare}")
        if queue is None:
            return 404, {"code": "not-found", "detail": f"{bare} is not there", "hint": "look elsewhere"}
        found = queue.pop(0) if len(queue) > 1 else queue[0]
        return found if isinstance(found, tuple) else (200, found)


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, api: Api) -> None:
        class Handler(BaseHTTPRequestHandler):
            def serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, answer = api.answer(self.command, self.path.removeprefix("/api/v1"), body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                self.serve()

            def do_POST(self) -> None:
                self.serve()

            def do_DELETE(self) -> None:
                self.serve()

            def address_string(self) -> str:
                return "test"

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(path, Handler)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    runtime = tempfile.mkdtemp(prefix="fz-", dir="/tmp")
    for name in ("FUSEML_URL", "FUSEML_PROJECT", "FUSEML_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FUSEML_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    yield from_environment()
    shutil.rmtree(runtime)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    settings.runtime_dir.mkdir(parents=True)
    answers = Api()
    answers.on("GET /projects/default", {"name": "default"})
    server = Server(str(settings.data_socket), answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield answers
    server.shutdown()
    server.server_close()
    thread.join(10)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return call
