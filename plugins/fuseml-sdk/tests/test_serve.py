"""The serve runtime as a process of its own, talked to over a real socket."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from fuseml_sdk import contract

PLUGIN = '''
import os, signal, subprocess, sys, threading, time
from fuseml_sdk import calls, hookimpl
from fuseml_sdk.errors import NotFound, NotReady
from fuseml_sdk.types import ArtifactDescriptor, Location, StoreDescription

print("printed at import")

class Store:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config = config
        if config.get("refuse"):
            raise NotReady("the back-end is away")

    @hookimpl
    def fuseml_health(self):
        return {"cwd": os.getcwd()}

    @hookimpl
    def fuseml_shutdown(self):
        print("shut down in order", file=sys.stderr)

    @hookimpl
    def store_describe(self):
        print("printed by a hook")
        os.write(1, b"written to descriptor 1\\n")
        return StoreDescription(name="toy", kinds=["model"], schemes=["file"], capabilities=[])

    @hookimpl
    def store_get(self, ref):
        if ref.name == "missing":
            raise NotFound("there is no model missing", hint="Create it.", details={"near": ["messing"]})
        if ref.name == "defect":
            raise KeyError("oops")
        if ref.name == "exit":
            sys.exit(3)
        if ref.name == "nothing":
            return None
        if ref.name == "signal":
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if ref.name.startswith("sleep"):
            time.sleep(float(ref.name[5:]))
        call = calls.current()
        return ArtifactDescriptor(kind=ref.kind, project=ref.project, name=ref.name, digest="sha256:0",
                                  metadata={"id": call.id, "trace": call.traceparent, "left": call.remaining(),
                                            "secret": self.config.get("password")})

    @hookimpl
    def store_locate(self, ref, accepts):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        return Location(uri=f"pid:{child.pid}")

plugin = Store()
'''


class UnixClient(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("plugin", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def ask(self, method, path, body=None, headers=None):
        self.request(method, path, body if isinstance(body, bytes) or body is None else json.dumps(body).encode(),
                     headers or {})
        response = self.getresponse()
        text = response.read()
        return response.status, response.getheader("content-type"), json.loads(text)

    def get(self, name, **headers):
        return self.ask("POST", "/v1/hooks/store_get", {"ref": {"kind": "model", "project": "p", "name": name}}, headers)


class Served:
    """A runtime started as a host does it: socket 3, lifeline 4, configuration on standard input."""

    def __init__(self, folder, address="served_plugin:plugin", config=None):
        (folder / "served_plugin.py").write_text(PLUGIN)
        self.path = folder / "p.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(16)
        life_read, self.lifeline = os.pipe()
        script = 'exec "$0" -m fuseml_sdk.serve "$1" 3<&"$2" 4<&"$3"'
        # Only a shell can renumber descriptors without a fork in this process, which has threads.
        self.process = subprocess.Popen(
            ["bash", "-c", script, sys.executable, address, str(self.listener.fileno()), str(life_read)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            pass_fds=(self.listener.fileno(), life_read), env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)})
        os.close(life_read)
        document = {"config": config or {}, "state_dir": str(folder / "state"), "drain_seconds": 5}
        self.process.stdin.write(json.dumps(document))
        self.process.stdin.close()
        self.process.stdin = None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=20)
        self.listener.close()
        if self.lifeline is not None:
            os.close(self.lifeline)

    def cut_lifeline(self):
        os.close(self.lifeline)
        self.lifeline = None


@contextmanager
def serving(folder, *arguments, **more):
    served = Served(folder, *arguments, **more)
    try:
        yield served
    finally:
        served.close()


@pytest.fixture
def served(tmp_path):
    with serving(tmp_path, config={"password": "hunter2"}) as it:
        yield it


@pytest.fixture
def client(served):
    it = UnixClient(served.path)
    yield it
    it.close()


def test_r133_describe_tells_protocols_digest_and_hooks(client):
    status, _, told = client.ask("GET", "/v1/describe")
    assert status == 200
    assert told["protocols"] == [1]
    assert told["contract_digest"] == contract.digest()
    assert told["hooks"]["store_get"] == {"idempotent": True}
    assert "store_search" not in told["hooks"]
    assert told["failure"] is None


def test_health_and_readiness(client, tmp_path):
    assert client.ask("GET", "/healthz")[::2] == (200, {"status": "alive"})
    assert client.ask("GET", "/readyz")[::2] == (200, {"status": "ready", "facts": {"cwd": str(tmp_path / "state")}})


def test_r165_a_hook_is_called_with_named_arguments(client):
    headers = {"fuseml-call-id": "call-7", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
               "fuseml-deadline-ms": "5000"}
    status, media_type, told = client.get("churn", **headers)
    assert (status, media_type) == (200, "application/json")
    assert told["name"] == "churn"
    facts = told["metadata"]
    assert (facts["id"], facts["trace"], facts["secret"]) == ("call-7", headers["traceparent"], "hunter2")
    assert 0 < facts["left"] <= 5


@pytest.mark.parametrize(("name", "status", "kind", "detail"), [
    ("missing", 404, "not-found", "there is no model missing"),
    ("defect", 500, "internal", "KeyError: 'oops'"),
    ("exit", 500, "internal", "SystemExit: 3"),
    ("nothing", 500, "internal", "store_get returned nothing"),
])
def test_errors_are_problem_documents(client, name, status, kind, detail):
    answer, media_type, told = client.get(name)
    assert (answer, media_type) == (status, "application/problem+json")
    assert (told["type"], told["detail"], told["status"]) == (kind, detail, status)


def test_problem_carries_hint_and_details(client):
    told = client.get("missing")[2]
    assert (told["hint"], told["details"]) == ("Create it.", {"near": ["messing"]})


@pytest.mark.parametrize(("method", "path", "body", "status", "kind"), [
    ("POST", "/v1/hooks/store_get", b"{", 400, "invalid-input"),
    ("POST", "/v1/hooks/store_get", b"{}", 400, "invalid-input"),
    ("POST", "/v1/hooks/store_search", b'{"query": {}}', 501, "unsupported"),
    ("POST", "/v1/hooks/fuseml_configure", b"{}", 501, "unsupported"),
    ("POST", "/v1/hooks/nothing", b"{}", 404, "not-found"),
    ("GET", "/", None, 404, "not-found"),
    ("GET", "/v1/hooks/store_get", None, 405, "invalid-input"),
    ("POST", "/v1/describe", b"", 405, "invalid-input"),
])
def test_wrong_requests_are_refused_with_a_reason(client, method, path, body, status, kind):
    answer, _, told = client.ask(method, path, body)
    assert (answer, told["type"]) == (status, kind)


def test_a_passed_deadline_is_not_served(client):
    assert client.get("churn", **{"fuseml-deadline-ms": "0"})[2]["type"] == "cancelled"
    assert client.get("churn", **{"fuseml-deadline-ms": "soon"})[2]["type"] == "invalid-input"


def test_connections_are_kept_alive(client):
    client.ask("GET", "/healthz")
    first = client.sock
    client.get("missing")
    client.ask("GET", "/healthz")
    assert client.sock is first is not None


def test_calls_run_side_by_side(served):
    clients = [UnixClient(served.path) for _ in range(4)]
    clients[0].ask("GET", "/healthz")
    started = time.monotonic()
    threads = [threading.Thread(target=each.get, args=("sleep1.0",)) for each in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 3
    for each in clients:
        each.close()


def test_output_of_the_plugin_goes_to_standard_error(served, client):
    client.ask("POST", "/v1/hooks/store_describe", {})
    client.get("defect")
    served.process.terminate()
    out, err = served.process.communicate(timeout=20)
    assert out == ""
    for text in ("printed at import", "printed by a hook", "written to descriptor 1", "KeyError: 'oops'", "Traceback",
                 "shut down in order"):
        assert text in err
    assert "hunter2" not in err


def _raw(path, data, finish=True):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(data)
        if finish:
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(("data", "status"), [
    (b"nonsense\r\n\r\n", b"400"),
    (b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
    (b"GET /healthz HTTP/1.1\r\nx: y", b"400"),
    (b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
    (b"GET /" + b"y" * 40_000, b"431"),
    (b"POST /v1/describe HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
    (b"POST /v1/describe HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", b"413"),
    (b"POST /v1/describe HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"400"),
    (b"POST /v1/describe HTTP/1.1\r\ncontent-length: 5\r\n\r\nab", b"400"),
])
def test_malformed_requests_are_answered_and_hurt_nobody(served, client, data, status):
    assert _raw(served.path, data).split(b" ")[1] == status
    assert client.ask("GET", "/healthz")[0] == 200


def test_sigterm_finishes_the_call_in_flight(served, client):
    client.ask("GET", "/healthz")
    idle = UnixClient(served.path)
    idle.ask("GET", "/healthz")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.get("sleep1.0")))
    thread.start()
    time.sleep(0.3)
    served.process.send_signal(signal.SIGTERM)
    thread.join(20)
    assert answers[0][0] == 200
    assert served.process.wait(20) == 0
    idle.close()


def test_sigterm_is_heard_whichever_thread_gets_it(served, client):
    client.ask("GET", "/healthz")
    time.sleep(0.5)  # Now the main thread waits without a limit.
    assert client.get("signal")[0] == 200
    assert served.process.wait(20) == 0


def test_sigterm_waits_no_longer_than_the_drain(tmp_path):
    with serving(tmp_path) as served:
        client = UnixClient(served.path)
        client.ask("GET", "/healthz")
        broken = []

        def call():
            with pytest.raises(OSError) as caught:
                client.get("sleep60")
            broken.append(caught.value)

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 1
        assert 4 < time.monotonic() - started < 10
        thread.join(20)
        assert len(broken) == 1
        client.close()


def test_the_end_of_the_lifeline_ends_the_process_and_its_children(served, client):
    told = client.ask("POST", "/v1/hooks/store_locate", {"ref": {"kind": "m", "project": "p", "name": "n"}, "accepts": []})
    child = int(told[2]["uri"].partition(":")[2])
    # The child was started without closing descriptors; it must not have the lifeline.
    assert not any(os.path.realpath(f"/proc/{child}/fd/{n}") == os.path.realpath(f"/proc/{served.process.pid}/fd/4")
                   for n in os.listdir(f"/proc/{child}/fd"))
    started = time.monotonic()
    served.cut_lifeline()
    served.process.wait(10)
    assert time.monotonic() - started < 2
    until = time.monotonic() + 5
    while _alive(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _alive(child)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("address", "config", "kind", "detail"), [
    ("no_such_module:plugin", {}, "internal", "No module named 'no_such_module'"),
    ("served_plugin:nobody", {}, "permanent", "has no attribute 'nobody'"),
    ("served_plugin:os", {}, "permanent", "implements no hook"),
    ("served_plugin", {}, "permanent", "is not `module:attribute`"),
    ("served_plugin:plugin", {"refuse": 1}, "not-ready", "the back-end is away"),
])
def test_a_plugin_that_cannot_start_says_why(tmp_path, address, config, kind, detail):
    with serving(tmp_path, address, config) as served:
        client = UnixClient(served.path)
        failure = client.ask("GET", "/v1/describe")[2]["failure"]
        assert failure["type"] == kind
        assert detail in failure["detail"]
        assert client.ask("GET", "/readyz")[2]["detail"] == failure["detail"]
        assert client.get("x")[2]["detail"] == failure["detail"]
        assert client.ask("GET", "/healthz")[0] == 200
        client.close()


def _by_hand(folder, *arguments, **env):
    (folder / "served_plugin.py").write_text(PLUGIN)
    return subprocess.Popen([sys.executable, "-m", "fuseml_sdk.serve", *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder,
                            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **env})


def test_it_can_be_served_by_hand_with_a_private_config_file(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"config": {"password": "x"}, "state_dir": str(tmp_path / "state")}))
    config.chmod(0o600)
    sock = tmp_path / "own.sock"
    process = _by_hand(tmp_path, "served_plugin:plugin", "--socket", str(sock), FUSEML_PLUGIN_CONFIG=str(config))
    try:
        until = time.monotonic() + 20
        while not sock.exists() and time.monotonic() < until:
            time.sleep(0.02)
        client = UnixClient(sock)
        assert client.get("n")[2]["metadata"]["secret"] == "x"
        assert sock.stat().st_mode & 0o777 == 0o600
        client.close()
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_config_file_that_others_can_read_is_refused(tmp_path):
    config = tmp_path / "config.json"
    config.write_text("{}")
    config.chmod(0o644)
    process = _by_hand(tmp_path, "served_plugin:plugin", "--socket", str(tmp_path / "s"), FUSEML_PLUGIN_CONFIG=str(config))
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "can be read by others (Run: chmod 600" in err


def test_without_a_host_it_says_what_is_missing(tmp_path):
    process = _by_hand(tmp_path, "served_plugin:plugin")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "use --socket PATH" in err


def test_start_imports_little():
    code = ("import sys, fuseml_sdk.serve.application, fuseml_sdk.serve.server\n"
            "print({'argparse', 'asyncio', 'http', 'logging', 'ssl', 'subprocess'} & set(sys.modules) or 'nothing')")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "nothing\n"
