"""The programs that the wire-level tests talk to: the two runtimes of the SDK, and one that is no Python at all."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODE_AGENT = Path(__file__).parents[3] / "examples/node-agent/agent.mjs"
#: Seconds that anything may take before a test is given up.
PATIENCE = 60.0

PLUGIN = '''
import threading
from fuseml_sdk import calls, hookimpl
from fuseml_sdk.errors import NotFound
from fuseml_sdk.types import AgentDescription, LogChunk, WorkloadEvents, WorkloadStatus

gone = []

class Agent:
    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="toy", kinds=["job"], environments=["python"], schemes=["file"])

    @hookimpl
    def agent_status(self, names):
        return [WorkloadStatus(name=name, state="unknown") for name in names]

    @hookimpl
    def agent_events(self, cursor, wait):
        if calls.current().wait(wait):
            gone.append(cursor)
        return WorkloadEvents(cursor="1")

    @hookimpl
    def agent_logs(self, name, cursor, limit):
        if name != "gone":
            raise NotFound(f"there is no workload {name}", hint="Submit it.")
        return LogChunk(text=" ".join(gone), cursor="", complete=False)
'''


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Peer:
    """One program that listens.

    Attributes:
        name: stdlib, asgi or node.
        address: `unix:/path` or `http://127.0.0.1:port`.
        process: It.
    """

    name: str
    address: str
    process: subprocess.Popen

    def connect(self):
        if self.address.startswith("unix:"):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(PATIENCE)
            try:
                connection.connect(self.address.removeprefix("unix:"))
            except OSError:
                connection.close()
                raise
            return connection
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return socket.create_connection((host, int(port)), PATIENCE)

    def ask(self, method, path, body=None, headers=None):
        """One request on a connection of its own."""
        with self.connect() as connection:
            connection.sendall(request(method, path, body, headers))
            return answer(connection)

    def call(self, hook, headers=None, **arguments):
        return self.ask("POST", f"/v1/hooks/{hook}", arguments, headers)


def request(method, path, body=None, headers=None):
    """The bytes of a request as the contract wants it; headers with the value None are left out."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"host": "plugin", "content-length": str(len(data)) if body is not None else None, **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items() if v is not None)]
    return "\r\n".join([*lines, "", ""]).encode() + data


def answer(connection):
    """Read one answer."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        response.close()


@contextmanager
def serving(name, folder, *, token_file=None):
    """Run one of the programs while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    more = ["--token-file", str(token_file)] if token_file else []
    if name == "node":
        node = shutil.which("node")
        assert node, "nodejs is not installed: apt-get install nodejs"
        command = [node, str(NODE_AGENT), "--state", str(folder / "jobs"), "--http", "127.0.0.1:0", *more]
    else:
        (folder / "wire_toy.py").write_text(PLUGIN)
        place = ["--socket", str(folder / "p.sock")] if name == "stdlib" else ["--asgi", "127.0.0.1:0", *more]
        command = [sys.executable, "-m", "fuseml_sdk.serve", "wire_toy:Agent", *place]
    settings = folder / "settings.json"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps({"state_dir": str(folder / "state"), "drain_seconds": 5}))
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "FUSEML_PLUGIN_CONFIG": str(settings)})
    try:
        yield Peer(name, _address(name, folder, process, log), process)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(name, folder, process, log):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"at (http://\S+)", log.read_text())
        address = f"unix:{folder / 'p.sock'}" if name == "stdlib" else found[1] if found else ""
        if address:
            try:
                if Peer(name, address, process).ask("GET", "/healthz").status == 200:
                    return address
            except OSError:
                pass
        time.sleep(0.02)
    raise AssertionError(f"{name} did not start: {log.read_text()}")
