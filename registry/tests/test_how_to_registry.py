"""The page "Run a registry of your own" does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseml_oci.digests import digest_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/run-a-registry.md").read_text(encoding="utf-8")
FUSEML = Path(sys.executable).with_name("fuseml")
PASSWORD = "a-long-password"


def block(heading, kind, number=0):
    """A block of code below a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{kind}\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)[number]


def commands(heading, number=0):
    return [shlex.split(line[2:]) for line in block(heading, "console", number).splitlines() if line.startswith("$ ")]


@pytest.fixture
def shell(tmp_path):
    """Run a command of the page in a folder of the test."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("FUSEML_") and k != "PYTHONDONTWRITEBYTECODE"}
    variables |= {"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}

    def arguments(command):
        return [str(FUSEML), *command[1:]] if command[0] == "fuseml" else command

    def run(command, stdin=""):
        done = subprocess.run(arguments(command), cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=60,
                              env=variables)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(command):
        process = subprocess.Popen(arguments(command), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=variables)
        try:
            line = process.stdout.readline()
            assert "listens on" in line, process.stderr.read()
            yield re.search(r"listens on https?://[^:]+:(\d+) ", line)[1]
        finally:
            process.terminate()
            process.communicate(timeout=40)

    run.serving = serving
    return run


def test_r65_run_a_registry_of_your_own(shell, tmp_path, pusher, http):
    for command in commands("Users first"):
        listed = shell(command, f"{PASSWORD}\n")
    assert "alice" in listed
    certificate = tmp_path / "registry/tls"
    certificate.mkdir()
    shell(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
           "-keyout", f"{certificate}/key.pem", "-out", f"{certificate}/cert.pem", "-subj", "/CN=localhost",
           "-addext", "subjectAltName=DNS:localhost"])
    config = block("Configure", "toml").replace("port = 5000", "port = 0") + block("Collect garbage", "toml")
    assert set(tomllib.loads(config)) == {"root", "listen", "auth", "access", "collection"}
    (tmp_path / "registry/registry.toml").write_text(config)
    (serve,) = commands("Serve")
    with shell.serving(serve) as port:
        http.verify, http.auth = str(certificate / "cert.pem"), ("alice", PASSWORD)
        url = f"https://localhost:{port}/v2"
        image = pusher(url, "team-a/hello").image("1.0.0")
        http.auth = ("reader", PASSWORD)
        assert pusher(url, "team-a/hello").has(image)
        assert http.post(f"{url}/team-a/hello/blobs/uploads/").status_code == 403
        http.auth = None
        assert http.get(f"{url}/public/x/manifests/y").status_code == 404, "nothing there, but allowed"
        assert http.get(f"{url}/team-a/hello/tags/list").status_code == 401
        plan, done = (shell(command) for command in commands("Collect garbage"))
        assert plan.startswith("Would remove nothing")
        assert done.startswith("Removed nothing")
        assert "push-manifest" in (tmp_path / "registry/data/audit.jsonl").read_text()
        assert "fuseml_registry_requests_total" in http.get(f"https://localhost:{port}/metrics").text
    *moves, serve = commands("Back up and move")
    for command in moves:
        shell(command)
    with shell.serving([*serve, "--port", "0"]) as port:
        http.auth = ("alice", PASSWORD)
        assert pusher(f"http://localhost:{port}/v2", "team-a/hello").has(image)


def test_the_pages_clients_work(shell, tmp_path):
    """As typed, with another port; without TLS, because the machine does not know the test's certificate."""
    for command in commands("Users first"):
        shell(command, f"{PASSWORD}\n")
    serve = ["fuseml", "registry", "serve", "--root", "registry/data", "--auth", "token", "--users", "registry/users",
             "--port", "0"]
    with shell.serving(serve) as port:
        login, copy, pull = ([part.replace("localhost:5000", f"localhost:{port}") for part in command]
                             for command in commands("Serve", 1))
        make_layout(tmp_path / "hello")
        shell([*login, "--tls-verify=false"], PASSWORD)
        shell([*copy, "--dest-tls-verify=false"])
        assert pull[:2] == ["podman", "pull"]
        back = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{pull[2]}", "oci:back"]
        shell(back)
        assert (tmp_path / "back/index.json").exists()


def make_layout(folder):
    """An image layout with an empty image."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(data, kind):
        (folder / "blobs/sha256" / digest_bytes(data)[7:]).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest_bytes(data), "size": len(data)}

    config = blob(b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}', "config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                                "config": config, "layers": []}).encode(), "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
