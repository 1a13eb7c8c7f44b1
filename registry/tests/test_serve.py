"""`fuseml registry serve`, `user` and `gc`, as an administrator types them."""

from __future__ import annotations

import datetime
import io
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fuseml_oci.digests import digest_bytes
from fuseml_registry.commands import main
from fuseml_registry.configuration import configure, read_file
from fuseml_registry.quantities import seconds, size
from fuseml_sdk.errors import InvalidInput

COMMAND = Path(sys.executable).with_name("fuseml-registry")
PASSWORD = "a-long-password"


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("FUSEML_") and k != "PYTHONDONTWRITEBYTECODE"}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process, which is much faster, as if it were one of its own."""
    def ran(*arguments, stdin="", **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        return Done(stop.value.code or 0, *capsys.readouterr())

    return ran


@contextmanager
def served(*arguments, **variables):
    """A server as a process; yields it and its base URL."""
    process = subprocess.Popen([COMMAND, "serve", "--port", "0", *map(str, arguments)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env={**environment(), **variables})
    try:
        line = process.stdout.readline()
        found = re.search(r"listens on (\S+) ", line)
        assert found, line + process.stderr.read()
        yield process, found[1]
    finally:
        process.terminate()
        try:
            process.communicate(timeout=40)
        finally:
            process.kill()


@pytest.fixture
def users(tmp_path, run):
    path = tmp_path / "users"
    assert run("user", "add", "alice", "--users", path, stdin=f"{PASSWORD}\n").returncode == 0
    return path


def make_certificate(folder):
    """Write cert.pem and key.pem for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2)).add_extension(names, False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


def test_r65_a_registry_of_ones_own_with_everything_in_a_file(tmp_path, users, certificate, pusher, http):
    config = tmp_path / "registry.toml"
    config.write_text(f"""
root = "data"
upload_expiry = "2h"

[listen]
host = "127.0.0.1"
certificate = "{certificate}/cert.pem"
key = "{certificate}/key.pem"

[auth]
method = "token"
users = "users"

[[access]]
users = ["alice"]
repositories = ["team/**"]
actions = ["pull", "push"]
""")
    with served("--config", config) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        http.verify, http.auth = str(certificate / "cert.pem"), ("alice", PASSWORD)
        repository = pusher(f"{url}/v2", "team/one")
        image = repository.image("v1")
        assert repository.has(image)
        assert http.post(f"{url}/v2/other/blobs/uploads/").status_code == 403
        http.auth = None
        challenge = http.get(f"{url}/v2/").headers["WWW-Authenticate"]
        assert f'realm="{url}/token"' in challenge
    assert (tmp_path / "data/token.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data/audit.jsonl").exists()


def test_environment_and_options_win_over_the_file(tmp_path, http):
    config = tmp_path / "registry.toml"
    config.write_text('root = "data"\nread_only = true\nimmutable_tags = "none"\n')
    with served("--config", config, "--no-read-only", FUSEML_REGISTRY_SERVE_ROOT=str(tmp_path / "elsewhere")) as (_, url):
        assert http.post(f"{url}/v2/a/blobs/uploads/").status_code == 202
    assert (tmp_path / "elsewhere/uploads").is_dir()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--root", "x", "--host", "0.0.0.0"], "without TLS and authentication"),
    (["--root", "x", "--host", "::", "--auth", "token", "--users", "USERS"], "without TLS"),
    (["--root", "x", "--host", "0.0.0.0", "--tls-certificate", "CERT", "--tls-key", "KEY"], "without authentication"),
    (["--root", "x", "--tls-certificate", "CERT"], "needs both"), ([], "needs a directory"),
    (["--root", "x", "--auth", "basic"], "needs a file with users"),
    (["--root", "x", "--auth", "basic", "--users", "none"], "has no users"),
    (["--root", "x", "--tls-certificate", "KEY", "--tls-key", "CERT"], "cannot be used for TLS"),
    (["--root", "x", "--upload-expiry", "soon"], "'soon' is not a duration"),
    (["--root", "x", "--anonymous-pull"], "no effect without authentication"),
    (["--config", "missing.toml"], "cannot be read"), (["--root", "x", "--host", "256.1.1.1", "--allow-insecure"], "cannot listen"),
])
def test_what_cannot_or_should_not_be_served_is_refused_with_the_way_out(tmp_path, run, users, certificate, arguments, message):
    places = {"USERS": users, "CERT": certificate / "cert.pem", "KEY": certificate / "key.pem", "x": tmp_path / "x"}
    done = run("serve", "--port", "0", *(places.get(a, a) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_strangers_are_let_in_when_that_is_said_explicitly(tmp_path, http):
    with served("--root", tmp_path, "--host", "0.0.0.0", "--allow-insecure") as (_, url):
        assert http.get(f"{url.replace('0.0.0.0', '127.0.0.1')}/v2/").status_code == 200


def test_a_renewed_certificate_is_taken_up_without_a_restart(tmp_path):
    program = ("import fuseml_registry.standalone.server as s; s.RENEWAL = 0.2; "
               "from fuseml_registry.commands import main; main()")
    make_certificate(tmp_path)
    arguments = ["serve", "--root", tmp_path / "r", "--port", "0", "--tls-certificate", tmp_path / "cert.pem",
                 "--tls-key", tmp_path / "key.pem"]
    process = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())
    try:
        port = int(re.search(r"127.0.0.1:(\d+) ", process.stdout.readline())[1])

        def served_now():
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)

        first = served_now()
        assert first.strip() == (tmp_path / "cert.pem").read_text().strip()
        (tmp_path / "key.pem").write_text("half of a renewal")
        time.sleep(0.6)
        assert served_now() == first
        make_certificate(tmp_path)
        deadline = time.monotonic() + 10
        while served_now() == first:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert served_now().strip() == (tmp_path / "cert.pem").read_text().strip()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=40)
    assert "the old one stays" in errors


@pytest.mark.parametrize(("proxies", "address"), [('["127.0.0.1"]', "203.0.113.7"), ("[]", "127.0.0.1")])
def test_proxies_are_believed_if_they_are_named(tmp_path, users, http, proxies, address):
    (tmp_path / "c.toml").write_text(f'root = "data"\n[listen]\nproxies = {proxies}\n[auth]\nmethod = "token"\n'
                                     'users = "users"\n')
    with served("--config", tmp_path / "c.toml") as (_, url):
        headers = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        answer = http.get(f"{url}/v2/", headers=headers)
        realm = "https://127.0.0.1" if address != "127.0.0.1" else "http://127.0.0.1"
        assert f'realm="{realm}' in answer.headers["WWW-Authenticate"]
        http.post(f"{url}/v2/a/blobs/uploads/", params={"digest": digest_bytes(b"x")}, data=b"x", headers=headers,
                  auth=("alice", PASSWORD))
    assert json.loads((tmp_path / "data/audit.jsonl").read_text().splitlines()[-1])["address"] == address


def test_a_signal_lets_requests_finish(tmp_path, http):
    data = os.urandom(3 << 20)
    with served("--root", tmp_path) as (process, url):
        location = urljoin(url, http.post(f"{url}/v2/a/blobs/uploads/").headers["Location"])
        half = threading.Event()

        def body():
            yield data[:1 << 20]
            half.set()
            time.sleep(1)
            yield data[1 << 20:]

        answers = []
        thread = threading.Thread(target=lambda: answers.append(
            requests.put(location, params={"digest": digest_bytes(data)}, data=body(), timeout=30)))
        thread.start()
        assert half.wait(10)
        process.send_signal(signal.SIGTERM)
        thread.join(30)
        assert answers[0].status_code == 201
        assert process.wait(30) == 0


def test_two_servers_never_work_on_one_directory(tmp_path, monkeypatch):
    with served("--root", tmp_path) as (first, _):
        (tmp_path / "tmp/being-written").write_bytes(b"x")
        program = ("import fuseml_registry.keeper as k; k.PREDECESSOR = 0.5; from fuseml_registry.commands import main; "
                   "main()")
        second = subprocess.run([sys.executable, "-c", program, "serve", "--root", str(tmp_path), "--port", "0"],
                                capture_output=True, text=True, timeout=60, env=environment())
    assert second.returncode == 1
    assert (tmp_path / "tmp/being-written").exists()
    assert "could not start" in second.stderr
    assert f"process {first.pid} works on {tmp_path} already" in second.stderr


# Hostile clients on the socket

@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    with served("--root", tmp_path_factory.mktemp("alone")) as (_, url):
        yield url


def exchange(url, data, seconds=10):
    """Send bytes; returns all that comes back."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), seconds) as connection:
        with suppress(OSError):
            connection.sendall(data)
        answer = b""
        with suppress(TimeoutError, ConnectionError):
            while part := connection.recv(65536):
                answer += part
    return answer


@pytest.mark.parametrize("head", [
    b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: 1\r\n" * 500 + b"\r\n",
    b"GET /v2/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
], ids=["large", "many", "long-path"])
def test_a_head_that_is_too_large_is_431(alone, http, head):
    assert exchange(alone, head).startswith(b"HTTP/1.1 431 ")
    assert http.get(f"{alone}/v2/").status_code == 200


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /v2/ HTTP/9.9\r\n\r\n", b"\x00" * 1000,
    b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
    b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
])
def test_what_is_not_http_is_400_and_hurts_nobody(alone, http, data):
    answer = exchange(alone, data, 3)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ")) or not answer
    assert http.get(f"{alone}/v2/").status_code == 200


def test_a_connection_without_a_request_is_closed(alone, monkeypatch, tmp_path):
    program = ("import fuseml_registry.standalone.protocol as p; p.HEAD_TIMEOUT = 0.5; "
               "from fuseml_registry.commands import main; main()")
    process = subprocess.Popen([sys.executable, "-c", program, "serve", "--root", str(tmp_path), "--port", "0"],
                               stdout=subprocess.PIPE, text=True, env=environment())
    try:
        url = re.search(r"listens on (\S+) ", process.stdout.readline())[1]
        for data in (b"", b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
            began = time.monotonic()
            assert exchange(url, data) == b""
            assert time.monotonic() - began < 5
        answer = exchange(url, b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("path", [
    "/v2/../../../etc/passwd", "/v2/a/blobs/sha256:../../../../etc/passwd", "/v2/a/manifests/..", "/v2/a/manifests/%2e%2e",
    "/v2/%2e%2e/%2e%2e/manifests/x", "/v2/a/_tags/manifests/x", "/v2/a/blobs/sha256:" + "%2e" * 32, "/v2//a/manifests/x",
    "/v2/a/blobs/uploads/../../x", "/v2/a/blobs/uploads/%2e%2e%2f%2e%2e", "/v2/a%00b/manifests/x", "/v2/a/manifests/x%0a",
    "/v2/a\\..\\b/manifests/x", "/v2/_catalog/../a/tags/list", "/v2/" + "a/" * 200 + "tags/list",
    "/v2/a/referrers/sha256:..%2f..", "/v2/a/tags/list?last=../../etc&n=1",
])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
def test_tricks_with_paths_end_in_errors(alone, http, method, path):
    answer = exchange(alone, f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                      .encode())
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer[:300]
    assert b"root:" not in answer


# Users

def test_users_are_added_listed_and_removed(tmp_path, run, monkeypatch):
    file = tmp_path / "users"
    assert "Added bob" in run("user", "add", "bob", "--users", file, stdin="bobs-password\n").stdout
    assert "Changed the password of bob" in run("user", "add", "bob", "--users", file, stdin="another-one\n").stdout
    assert "Changed" in run("user", "add", "bob", "--users", file, "--password-stdin", stdin="a-third-one\n").stdout
    assert f"no file {file}x" in run("user", "list", "--users", f"{file}x").stderr
    run("user", "add", "carol", FUSEML_REGISTRY_SERVE_USERS=str(file), stdin="carols-password")
    assert json.loads(run("user", "list", "--users", file, "--output", "json").stdout) == [{"name": "bob"}, {"name": "carol"}]
    assert run("user", "list", "--users", file).stdout.split() == ["NAME", "----", "bob", "carol"]
    assert run("user", "remove", "bob", "--users", file).returncode == 0
    again = run("user", "remove", "bob", "--users", file)
    assert again.returncode == 1
    assert "no user 'bob'" in again.stderr
    assert "password" not in file.read_text()
    assert run("user", "add", "dave", "--users", file, stdin="short\n").returncode == 2
    monkeypatch.delenv("FUSEML_REGISTRY_SERVE_USERS")
    assert "which file" in run("user", "list").stderr


# Garbage

@pytest.mark.parametrize("running", [True, False], ids=["server", "no-server"])
def test_gc_reports_and_removes_with_and_without_a_server(tmp_path, run, pusher, http, running):
    with served("--root", tmp_path) as (_, url):
        repository = pusher(f"{url}/v2", "a")
        image, stray = repository.image("v1"), repository.blob(b"stray")
        if running:
            check_gc(run, tmp_path, stray)
            assert repository.has(image)
    if not running:
        check_gc(run, tmp_path, stray)


def check_gc(run, root, stray):
    plan = run("gc", "--root", root, "--dry-run", "--age", "0s")
    assert f"would remove a@{stray['digest']}" in plan.stdout
    report = json.loads(run("gc", "--root", root, "--age", "0s", "--output", "json").stdout)
    assert (report["removed"]["blobs"], report["freed"]) == (1, 5)
    assert "Removed nothing" in run("gc", "--root", root, "--age", "0s").stdout


def test_fuseml_has_the_same_commands(tmp_path):
    fuseml = Path(sys.executable).with_name("fuseml")
    env = {**environment(), "FUSEML_HOME": str(tmp_path)}
    helped = subprocess.run([fuseml, "registry", "--help"], capture_output=True, text=True, env=env, timeout=60).stdout
    for name in ("gc", "serve", "user"):
        assert re.search(rf"^  {name} ", helped, re.MULTILINE)
    (tmp_path / "registry").mkdir()
    done = subprocess.run([fuseml, "registry", "gc"], capture_output=True, text=True, env=env, timeout=60)
    assert done.stdout.startswith("Removed nothing"), done.stderr


# Configuration

@pytest.mark.parametrize(("text", "message"), [
    ("root = 1", "root"), ('root = "x"\nunknown = 1', "unknown"), ("root = ", "not valid TOML"),
    ('root = "x"\n[auth]\nmethod = "magic"', "auth.method"), ('root = "x"\n[limits]\nblob = "many"', "a size such as"),
    ('root = "x"\n[[access]]\nusers = ["a"]\nactions = ["fly"]', "access.0.actions"),
    ('root = "x"\n[listen]\nport = 70000', "listen.port"),
])
def test_mistakes_in_the_file_are_named(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InvalidInput, match=re.escape(message)):
        configure(read_file(tmp_path / "c.toml"), source="c.toml")


def test_durations_and_sizes():
    assert [seconds(text) for text in ("90", "90s", "1.5 m", "24h", "30d", 5)] == [90, 90, 90, 86400, 2592000, 5]
    assert [size(text) for text in ("10", "10B", "1kB", "1KiB", "1.5MiB", "2g")] == [10, 10, 1000, 1024, 1572864, 2 << 30]
    for text in ("", "x", "-1s", "1 fortnight", "1e9", "٣s"):
        with pytest.raises(ValueError, match="is not"):
            seconds(text)
