"""Components that somebody else runs: away and back, strangers at the address, tokens, certificates, what is repeated."""

from __future__ import annotations

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
import structlog

from fuseml_core.host import Component, PluginHost
from fuseml_sdk import errors

HOOKS = {"agent_describe": {}, "agent_status": {}, "agent_collect": {}, "agent_events": {}}
DESCRIPTION = {"name": "toy", "kinds": ["job"], "environments": [], "schemes": []}


class Stranger:
    """A small HTTP server that answers as a test wants.

    Attributes:
        answers: By path: status, media type, body, headers; or a function of the handler.
        seen: Path and headers of each request.
    """

    def __init__(self, context=None):
        self.answers = {"/v1/describe": self.describes(), "/v1/hooks/agent_describe": (200, "application/json", DESCRIPTION)}
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append((self.path, dict(self.headers.items())))
                answer = outer.answers[self.path]
                if callable(answer):
                    answer(self)
                    return
                status, media_type, body, *headers = answer
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": media_type, "content-length": str(len(data)), **(headers or [{}])[0]}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def describes(**more):
        return 200, "application/json", {"protocols": [1], "hooks": HOOKS, "failure": None, **more}

    @property
    def port(self):
        return self.server.server_port

    def times(self, path):
        return sum(1 for seen, _ in self.seen if seen == path)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stranger():
    it = Stranger()
    yield it
    it.close()


@pytest.fixture
def agent(host, tmp_path):
    """Adds an agent at an address and gives access to it."""
    def adding(address, *, token="", into=host):
        into.add(Component(id="a", extension="far", version="2.0.0", digest="", family="agent", name="toy", plugin="",
                           hosting="address", config={}, state_dir=tmp_path / "state", address=address, token=token))
        return into.agent("a")

    return adding


def test_r133_away_is_said_with_the_reason_and_back_is_noticed(host, agent, served):
    address, process = served("example_extension:Agent")
    far = agent(address)
    assert host.components()[0].state == "idle"
    assert far.describe().name
    assert (host.components()[0].state, host.components()[0].pid) == ("ready", None)

    process.kill()
    process.wait()
    with pytest.raises(errors.NotReady, match=f"is away: {address} cannot be reached") as caught:
        far.status(["x"])
    assert caught.value.retryable
    assert caught.value.details["component"] == "a"
    (info,) = host.components()
    assert info.state == "failed"
    assert "refused" in info.last_crash
    for _ in range(20):  # no storm of attempts: those who ask too early are told at once when the next one is
        with pytest.raises(errors.NotReady):
            far.status(["x"], timeout=0.05)


def test_it_is_found_again_when_it_listens_again(host, agent, stranger):
    far = agent(f"http://127.0.0.1:{stranger.port}")
    assert far.describe().name == "toy"
    port = stranger.port
    hang_up = stranger.answers["/v1/hooks/agent_describe"]
    stranger.answers["/v1/hooks/agent_describe"] = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(errors.Retryable, match="closed the connection during agent_describe"):
        far.describe()
    stranger.answers["/v1/hooks/agent_describe"] = hang_up
    until = time.monotonic() + 30
    while True:
        try:
            assert far.describe().name == "toy"
            break
        except errors.NotReady:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert stranger.port == port
    assert host.components()[0].state == "ready"
    assert host.components()[0].restarts >= 1


def test_only_what_is_idempotent_is_sent_again(agent, stranger, host, tmp_path):
    """An agent's hooks all are; a builder's build is not."""
    dropped = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)  # noqa: E731
    stranger.answers["/v1/describe"] = stranger.describes(hooks={**HOOKS, "builder_describe": {}, "builder_build": {}})
    stranger.answers |= {"/v1/hooks/agent_status": dropped, "/v1/hooks/builder_build": dropped}
    far = agent(f"http://127.0.0.1:{stranger.port}")
    with pytest.raises(errors.Retryable):
        far.status(["x"])
    assert stranger.times("/v1/hooks/agent_status") == 2
    host.add(Component(id="b", extension="far", version="2.0.0", digest="", family="builder", name="toy", plugin="",
                       hosting="address", config={}, state_dir=tmp_path, address=f"http://127.0.0.1:{stranger.port}"))
    with pytest.raises(errors.Permanent, match="not repeated"):
        host.call("b", "builder_build", {"request": {"project": "p", "name": "n", "digest": "git:1", "directory": "/",
                                                     "output": "/"}})
    assert stranger.times("/v1/hooks/builder_build") == 1


@pytest.mark.parametrize(("answer", "error", "words"), [
    ((302, "text/html", b"", {"location": "http://127.0.0.1:1/"}), errors.Permanent, "redirect"),
    ((401, "application/problem+json", {"type": "permanent", "detail": "no"}), errors.Permanent, "refuses the request"),
    ((503, "text/html", b"<h1>busy</h1>"), errors.NotReady, "cannot be reached behind"),
    ((502, "text/html", b"<h1>gone</h1>"), errors.Retryable, "cannot be reached behind"),
    ((404, "text/html", b"<h1>what?</h1>"), errors.Internal, "no problem document"),
    ((200, "text/html", b"<h1>hello</h1>"), errors.Internal, "no JSON object"),
    ((200, "application/json", {"protocols": [99], "hooks": {}}), errors.Permanent, "too new"),
    ((200, "application/json", {"protocols": [1], "hooks": {"store_get": {}}}), errors.Permanent, "is no agent"),
    ((200, "application/json", {"protocols": [1], "hooks": 7}), errors.Internal, "does not say in `hooks`"),
])
def test_strangers_at_the_address_are_told_apart(agent, stranger, answer, error, words):
    stranger.answers["/v1/describe"] = answer
    with pytest.raises(error, match=words):
        agent(f"http://127.0.0.1:{stranger.port}").describe()
    assert stranger.times("/v1/describe") == 1


@pytest.mark.parametrize(("address", "words"), [
    ("{url}", "needs the setting 'url'"), ("unix:relative.sock", "is not the address of a socket"),
    ("unix:/" + "x" * 200, "is not the address of a socket"), ("ftp://example.org", "is not an address"),
    ("http://127.0.0.1:99999", "is not an address"), ("http://", "is not an address"),
    ("http://127.0.0.1:80/?x=1", "is not an address"), ("http://127.0.0.1:80/a b", "is not an address"),
    ("http://127.0.0.1:80/a\r\nx: y", "is not an address"), ("http://127.0.0.1:80/ü", "is not an address"),
    ("http://two words:80", "is not an address"), ("http://" + "a" * 70 + ".org", "is not an address"), ("http://ada:s3cr3t@127.0.0.1:1", "holds a user")])
def test_addresses_that_are_none_are_refused_with_what_to_do(agent, address, words):
    with pytest.raises(errors.Permanent, match=words) as caught:
        agent(address).describe()
    assert caught.value.hint
    assert "s3cr3t" not in str(caught.value)


def test_a_prefix_comes_before_every_path(agent, stranger):
    stranger.answers = {f"/below/here{path}": answer for path, answer in stranger.answers.items()}
    assert agent(f"http://127.0.0.1:{stranger.port}/below/here/").describe().name == "toy"


def test_r164_the_token_goes_along_and_is_never_shown(host, agent, stranger):
    with structlog.testing.capture_logs() as logs:
        far = agent(f"http://127.0.0.1:{stranger.port}", token="s3cr3t-token")
        far.describe()
        stranger.answers["/v1/hooks/agent_describe"] = (401, "text/plain", b"no")
        with pytest.raises(errors.Permanent, match="Set its token") as caught:
            far.describe()
        stranger.answers["/v1/hooks/agent_describe"] = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
        with pytest.raises(errors.Retryable) as away:
            far.describe()
    assert {headers["authorization"] for _, headers in stranger.seen} == {"Bearer s3cr3t-token"}
    for shown in (logs, host.components(), caught.value, caught.value.details, away.value, away.value.details):
        assert "s3cr3t" not in repr(shown)
        assert "s3cr3t" not in str(shown)


def test_a_token_travels_only_where_nobody_reads_along(agent):
    with pytest.raises(errors.Permanent, match="for everybody to read"):
        agent("http://agents.example.org:8080", token="abc").describe()


def test_a_token_that_would_break_the_header_is_refused_unshown(agent, stranger):
    with pytest.raises(errors.Permanent, match="no bearer token has") as caught:
        agent(f"http://127.0.0.1:{stranger.port}", token="s3cr3t\r\nx: y").describe()
    assert "s3cr3t" not in str(caught.value)
    assert stranger.seen == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=agent", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"),
                    "-out", str(folder / "cert.pem")], check=True, capture_output=True)
    return folder


def test_certificates_are_verified_with_the_servers_authorities(runtime_dir, tmp_path, agent, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    stranger = Stranger(context)
    address = f"https://127.0.0.1:{stranger.port}"
    try:
        for environ, works in (({}, False), ({"FUSEML_CA_BUNDLE": str(certificate / "cert.pem")}, True)):
            host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", environ=environ)
            far = agent(address, token="t", into=host)
            if works:
                assert far.describe().name == "toy"
            else:
                with pytest.raises(errors.NotReady, match="CERTIFICATE_VERIFY_FAILED") as caught:
                    far.describe()
                assert "FUSEML_CA_BUNDLE" in caught.value.hint
            host.shutdown()
        assert len(stranger.seen) == 2
        assert {headers["authorization"] for _, headers in stranger.seen} == {"Bearer t"}
    finally:
        stranger.close()


def test_the_runtime_serves_https_and_asks_for_the_token(runtime_dir, tmp_path, agent, served, certificate):
    """Our own runtime at the other end, over TLS, with a token that is changed under way."""
    (tmp_path / "token").write_text("first\n")
    address, _ = served("example_extension:Agent", "asgi", more=[
        "--token-file", str(tmp_path / "token"), "--certificate", str(certificate / "cert.pem"),
        "--key", str(certificate / "key.pem")])
    assert address.startswith("https://")
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs",
                      environ={"FUSEML_CA_BUNDLE": str(certificate / "cert.pem")})
    try:
        far = agent(address, token="first", into=host)
        assert far.describe().kinds == ["job"]
        (tmp_path / "token").write_text("second\n")
        with pytest.raises(errors.Permanent, match="refuses the request"):
            far.describe()
        host.replace(Component(id="a", extension="far", version="2.0.0", digest="", family="agent", name="toy", plugin="",
                               hosting="address", config={}, state_dir=tmp_path / "s", address=address, token="second"))
        assert host.agent("a").describe().kinds == ["job"]
    finally:
        host.shutdown()


def test_stopping_lets_go_and_ends_nothing_over_there(host, agent, served):
    address, process = served("example_extension:Agent")
    agent(address).describe()
    host.remove("a")
    assert process.poll() is None
    assert agent(address).describe().kinds == ["job"]


def test_a_caller_without_time_says_nothing_about_the_plugin(host, agent, stranger):
    far = agent(f"http://127.0.0.1:{stranger.port}")
    for timeout in (0.0, -1.0):
        with pytest.raises(errors.Cancelled, match="before the deadline"):
            far.describe(timeout=timeout)
    assert (host.components()[0].state, stranger.seen) == ("idle", [])
    assert far.describe().name == "toy"
    with pytest.raises(errors.Cancelled, match="before the deadline"):
        far.status(["x"], timeout=0.0)
    assert host.components()[0].state == "ready"


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
def test_connections_that_the_other_side_has_closed_are_not_used_again(host, agent, stranger, farewell, monkeypatch):
    """As most servers do with connections that rest; a plugin is not away for it, and nothing has to be repeated."""
    monkeypatch.setattr("fuseml_core.host.transport.RESTED", 0.0)
    meeting, leave, left = threading.Barrier(4), threading.Event(), threading.Semaphore(0)

    def answer(handler):
        meeting.wait(30)  # four calls at once, so that there are four connections
        body = b'[{"name": "x", "state": "running"}]'
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        leave.wait(30)
        handler.wfile.write(farewell)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        left.release()

    stranger.answers["/v1/hooks/agent_status"] = answer
    far = agent(f"http://127.0.0.1:{stranger.port}")
    callers = [threading.Thread(target=far.status, args=(["x"],)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    leave.set()
    assert all(left.acquire(timeout=30) for _ in callers)
    for _ in range(3):
        assert far.describe().name == "toy"
    assert (host.components()[0].state, host.components()[0].restarts) == ("ready", 0)


def test_problem_documents_are_known_however_their_media_type_is_written(agent, stranger):
    stranger.answers["/v1/hooks/agent_status"] = (404, "Application/Problem+JSON; charset=utf-8",
                                                  {"type": "not-found", "detail": "there is no x"})
    with pytest.raises(errors.NotFound, match="there is no x"):
        agent(f"http://127.0.0.1:{stranger.port}").status(["x"])


def test_an_answer_that_never_comes_ends_at_the_deadline(agent, stranger):
    release = threading.Event()
    stranger.answers["/v1/hooks/agent_status"] = lambda handler: release.wait(30)
    far = agent(f"http://127.0.0.1:{stranger.port}")
    far.describe()
    try:
        with pytest.raises(errors.Cancelled, match=re.escape("did not answer agent_status before the deadline")):
            far.status(["x"], timeout=0.2)
        assert far.describe().name == "toy"
    finally:
        release.set()


def test_those_who_wait_for_one_that_does_not_answer_wait_once(stranger, tmp_path):
    """Not one after the other: the first who waits in vain tells the others."""
    from fuseml_core.host.address_hosting import AddressHosting
    from fuseml_sdk.calls import Call
    from fuseml_sdk.contract import operations

    release, arrived = threading.Event(), threading.Event()

    def silent(handler):
        arrived.set()
        release.wait(60)

    stranger.answers["/v1/describe"] = silent
    hosting = AddressHosting(
        Component(id="a", extension="far", version="2.0.0", digest="", family="agent", name="toy", plugin="",
                  hosting="address", config={}, state_dir=tmp_path, address=f"http://127.0.0.1:{stranger.port}"),
        answer_timeout=3.0)
    failures = []

    def ask():
        try:
            hosting.invoke(operations()["agent_describe"], {}, Call(time.monotonic() + 60))
        except errors.NotReady as error:
            failures.append(error.message)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    threads[0].start()
    assert arrived.wait(30)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(60)
    release.set()
    hosting.stop(0.0)
    assert len(failures) == 6
    assert {"did not answer within 3 s" in failure for failure in failures} == {True}
    assert stranger.times("/v1/describe") == 1
