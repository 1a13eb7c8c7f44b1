"""Real models, saved by MLflow in an environment that uv makes, and real servers."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock, ensure_environment, find_python

SOURCE = Path(__file__).parents[1] / "src"
SAVE = Path(__file__).parent / "models" / "save.py"
ROWS = Path(__file__).parent / "models" / "reference.py"
MODULES = {"fuseml": "fuseml_kserve.main", "kserve": "fuseml_kserve.engine"}


class Server:
    """A running server and one connection to it."""

    def __init__(self, python, directory, log, *, arguments=(), engine="fuseml", unix=None, env=None):
        listening = socket.socket(socket.AF_UNIX) if unix else socket.socket()
        listening.bind(str(unix) if unix else ("127.0.0.1", 0))
        listening.listen(64)
        self.address = listening.getsockname()
        code = f"import sys, {MODULES[engine]} as m; sys.exit(m.main(sys.argv[1:]))"
        script = f"exec \"$@\" 3<&{listening.fileno()}"
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "bash", str(python), "-c", code, str(directory), *arguments],
                env={"PATH": "/usr/bin:/bin", "HOME": str(log.parent), "PYTHONPATH": str(SOURCE), "LISTEN_FDS": "1",
                     "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
                pass_fds=[listening.fileno()], stdout=out, stderr=subprocess.STDOUT)
        listening.close()
        self.connection = self.connect()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def connect(self):
        """A new connection."""
        if isinstance(self.address, str):
            connection = http.client.HTTPConnection("localhost", timeout=60)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            connection.sock.connect(self.address)
            return connection
        return http.client.HTTPConnection(*self.address, timeout=60)

    def _wait_until_ready(self):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/v2/health/ready")[0] == 200:
                    return
            except OSError:
                self.connection = self.connect()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def get(self, path):
        """GET; returns status and document."""
        return self.request("GET", path)

    def post(self, path, document):
        """POST JSON; returns status and document."""
        return self.request("POST", path, json.dumps(document))

    def request(self, method, path, body=None, headers=None):
        """Any request on the kept connection."""
        self.connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    def stop(self):
        """End it if it still runs."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Place of everything that these tests make."""
    return tmp_path_factory.mktemp("serving")


def make_environment(home, requirements):
    python, _ = find_python("3.11")
    lock = compile_lock(requirements, python, universal=False)
    return ensure_environment(home / "envs", lock=lock, python=python).python


@pytest.fixture(scope="session")
def python(home):
    """Interpreter of an environment with MLflow."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return make_environment(home, ["mlflow-skinny==3.17.2", "pandas==2.3.3", "scikit-learn==1.9.1", "skops==0.16.0"])


@pytest.fixture(scope="session")
def models(home, python):
    """Directory with the saved models."""
    subprocess.run([str(python), str(SAVE), str(home / "models")], check=True, timeout=180, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(home)})
    return home / "models"


@pytest.fixture(scope="session")
def reference(home, python):
    """What `mlflow.pyfunc.load_model(path).predict(rows)` gives."""
    def predict(model, rows):
        done = subprocess.run([str(python), str(ROWS), str(model)], input=json.dumps(rows), text=True, check=True,
                              timeout=120, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(home)})
        return json.loads(done.stdout.splitlines()[-1])
    return predict


@pytest.fixture
def start(tmp_path, python):
    """Starts servers, and stops what it started."""
    started = []

    def run(directory, **options):
        server = Server(options.pop("python", python), directory, tmp_path / f"log-{len(started)}", **options)
        started.append(server)
        return server

    yield run
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def shared(home, python, models):
    """One server for each model, shared by tests that do not stop it."""
    running = {}

    def get(name):
        if name not in running:
            running[name] = Server(python, models / name, home / f"log-{name}")
        return running[name]

    yield get
    for server in running.values():
        server.stop()
