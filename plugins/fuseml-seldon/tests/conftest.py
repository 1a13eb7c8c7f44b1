"""The server as the bundle starts it: in the environment of its lock, before a model in another one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock, ensure_environment, find_python

ROOT = Path(__file__).parents[3]
MODEL = "import sys; from fuseml_kserve.main import main; sys.exit(main([*sys.argv[1:], '--lifeline']))"


class Server:
    """A running server; `seldon` and `model` are the interpreters of its two processes."""

    def __init__(self, seldon, model, directory, folder):
        folder.mkdir()
        listening = socket.socket(socket.AF_UNIX)
        self.address, self.log = str(folder / "s"), folder / "log"
        listening.bind(self.address)
        listening.listen(64)
        source = f"{ROOT}/plugins/fuseml-seldon/src"
        start = f"import sys; sys.path.insert(0, {source!r}); from fuseml_seldon.main import main; sys.exit(main(sys.argv[1:]))"
        child = f"import sys; sys.path.insert(0, '{ROOT}/plugins/fuseml-kserve/src'); {MODEL}"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{listening.fileno()}', "bash", seldon, "-c", start, model, "-c", child, directory],
                env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "LISTEN_FDS": "1"},
                pass_fds=[listening.fileno()], stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        listening.close()

    def wait_until_ready(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("GET", "/health/status")[0] == 200:
                    return self
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def connect(self):
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(self.address)
        return connection

    def ask(self, method, path, document=None):
        """One request on a connection of its own; returns status and document."""
        connection = self.connect()
        try:
            body = document if document is None or isinstance(document, bytes) else json.dumps(document)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.getheader("Content-Type", "")
            return answer.status, json.loads(text) if "json" in kind else text.decode()
        finally:
            connection.close()

    def predict(self, message):
        return self.ask("POST", "/api/v1.0/predictions", message)

    def everybody(self):
        """Ids of all its processes that live: they are in one session."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[3] == str(self.process.pid) and fields[0] != "Z":
                found.append(int(entry.name))
        return found

    def child(self):
        """The process with the model."""
        return next(pid for pid in self.everybody() if b"fuseml_kserve.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
                    and b"fuseml_seldon" not in Path(f"/proc/{pid}/cmdline").read_bytes())

    def tell_all(self, number):
        """As the process agent does it: every process gets the signal."""
        for pid in self.everybody():
            os.kill(pid, number)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.tell_all(signal.SIGKILL)
                self.process.wait()
        return self.process.returncode


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("seldon")


@pytest.fixture(scope="session")
def pythons(home):
    """Interpreters with Seldon Core, as the bundle locks it, and with MLflow."""
    python, _ = find_python("3.11")
    lock = (ROOT / "bundles/seldon/requirements.lock").read_text()
    seldon = ensure_environment(home / "envs", lock=lock, python=python).python
    wanted = ["mlflow-skinny==3.17.2", "pandas==2.3.3", "scikit-learn==1.9.1", "skops==0.16.0"]
    model = ensure_environment(home / "envs", lock=compile_lock(wanted, python, universal=False), python=python).python
    return str(seldon), str(model)


@pytest.fixture(scope="session")
def models(home, pythons):
    save = ROOT / "plugins/fuseml-kserve/tests/models/save.py"
    subprocess.run([pythons[1], str(save), str(home / "models")], check=True, timeout=180, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", "HOME": str(home)})
    return home / "models"


@pytest.fixture
def start(pythons, tmp_path_factory):
    """Starts servers, and stops what it started."""
    started = []

    def run(directory):
        folder = Path(tmp_path_factory.mktemp("s", numbered=True)) / "s"
        started.append(Server(*pythons, str(directory), folder))
        return started[-1]

    yield run
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def shared(pythons, models, home):
    """One server for each model, shared by tests that do not stop it."""
    running = {}

    def get(name):
        if name not in running:
            running[name] = Server(*pythons, str(models / name), home / name).wait_until_ready()
        return running[name]

    yield get
    for server in running.values():
        server.stop()
