"""A prediction through the gateway beside the same prediction straight to the model server, in one run (DESIGN 10)."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from fuseml_core.launcher.requests import ask
from fuseml_core.settings import from_environment

pytestmark = pytest.mark.bench

REQUESTS = 3000
WARM_UP = 300
BODY = b'{"rows": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]]}'
SERVICE = """
import sys, uvicorn
async def app(scope, receive, send):
    body = (await receive()).get("body", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, uds=sys.argv[1], log_level="error", lifespan="off")
"""


def connect(path: Path) -> http.client.HTTPConnection:
    """A connection to a Unix socket, once somebody listens there."""
    for _ in range(400):
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(path))
        except OSError:
            connection.close()
            time.sleep(0.05)
        else:
            return connection
    raise AssertionError(f"nobody listens on {path}")


def predict(connection: http.client.HTTPConnection, path: str) -> float:
    """Milliseconds of one prediction on a connection that is kept open."""
    began = time.perf_counter()
    connection.request("POST", path, BODY, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.read() == BODY
    return (time.perf_counter() - began) * 1000


def test_r137_a_prediction_through_the_gateway_costs_at_most_a_millisecond_more() -> None:
    folder = Path(tempfile.mkdtemp(prefix="fz", dir="/tmp"))
    (folder / "r").mkdir(mode=0o700)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FUSEML_") and k != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "FUSEML_HOME": str(folder / "h"), "FUSEML_PORT": "0", "XDG_RUNTIME_DIR": str(folder / "r")}
    settings = from_environment(environment)
    endpoint = folder / "s.sock"
    commands = ([sys.executable, "-m", "fuseml_core.gateway"], [sys.executable, "-c", SERVICE, str(endpoint)])
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        with closing(connect(endpoint)) as direct, closing(connect(settings.data_socket)) as through:
            ask(settings.data_socket, "PUT", "/internal/routes",
                {"version": 1, "services": {"p/s": {"endpoint": f"unix:{endpoint}", "instance": "fz-1"}}})
            times = [(predict(direct, "/predict"), predict(through, "/serve/p/s/predict")) for _ in range(REQUESTS)]
        alone, proxied = (statistics.median(column) for column in zip(*times[WARM_UP:], strict=True))
        sys.stderr.write(f"\nprediction p50: {alone:.3f} ms direct, {proxied:.3f} ms through the gateway, "
                         f"overhead {proxied - alone:.3f} ms\n")
        assert proxied - alone <= 1.0
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
