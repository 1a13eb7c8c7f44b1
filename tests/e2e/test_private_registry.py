"""A registry with a password and a certificate of one's own, behind a proxy: the page for admins, command by command."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/use-a-private-registry.md").read_text(encoding="utf-8")
HOST = "registry.example.org"


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: apt-get install {package}")
    return found


class Proxy:
    """A proxy through which `registry.example.org:5000` is a port of this machine, and nothing else can be reached."""

    def __init__(self, port: int) -> None:
        self.port, self.asked = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self.listener.accept()[:1], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            self.asked.append(request.partition(b"\r\n")[0].decode())
            if not request.startswith(f"CONNECT {HOST}:5000 ".encode()):
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", self.port)) as server:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        (server if ready is client else client).sendall(data)


def _certificate(folder: Path) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False).sign(key, hashes.SHA256()))
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.fixture
def private(tmp_path: Path) -> Iterator[int]:
    """The port of a docker-registry with TLS and the user `ada`."""
    _certificate(tmp_path)
    (tmp_path / "password.txt").write_text("open sesame\n")
    done = subprocess.run([_tool("htpasswd", "apache2-utils"), "-Bin", "ada"], input="open sesame", capture_output=True,
                          text=True, check=True, timeout=60)
    (tmp_path / "htpasswd").write_text(done.stdout)
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    (tmp_path / "config.json").write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "host": f"https://{HOST}:5000",
                 "tls": {"certificate": str(tmp_path / "ca.pem"), "key": str(tmp_path / "key.pem")}},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "auth": {"htpasswd": {"realm": "private", "path": str(tmp_path / "htpasswd")}}}))
    process = subprocess.Popen([_tool("docker-registry", "docker-registry"), "serve", str(tmp_path / "config.json")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]


def test_r65_r168_the_pages_commands_work(fuseml, private, tmp_path):
    proxy = Proxy(private)
    fuseml.environment |= {"FUSEML_CA_BUNDLE": str(tmp_path / "ca.pem"), "FUSEML_PROXY": proxy.url}
    shutil.copytree(ROOT / "tests/e2e/bundles/numbers", tmp_path / "numbers")
    commands = _commands()
    assert len(commands) == 7
    for command in commands:
        line, _, file = command.partition(" < ")
        arguments = shlex.split(line)[1:]
        if file:
            done = subprocess.run([shutil.which("fuseml", path=fuseml.environment["PATH"]), *arguments], timeout=120,
                                  input=(tmp_path / file).read_text(), env=fuseml.environment, capture_output=True,
                                  text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert "open sesame" not in done.stdout + done.stderr
            assert _logged_in(fuseml)
        else:
            fuseml(*arguments, cwd=tmp_path)
    assert not _logged_in(fuseml)
    installed, = fuseml.json("extension", "list")
    assert (installed["name"], installed["state"]) == ("numbers", "active")
    assert installed["source"].startswith(f"oci://{HOST}:5000/team/numbers")
    assert (tmp_path / "numbers.oci.tar").is_file()
    refused = fuseml("bundle", "inspect", f"oci://{HOST}:5000/team/numbers:0.1.0", code=None)
    assert refused.code != 0
    assert "fuseml registry login" in refused.err
    assert {line.rpartition(" ")[0] for line in proxy.asked if HOST in line} == {f"CONNECT {HOST}:5000"}
    proxy.listener.close()


def _logged_in(fuseml) -> bool:
    file = fuseml.home / ".docker/config.json"
    return file.is_file() and f"{HOST}:5000" in json.loads(file.read_text()).get("auths", {})
