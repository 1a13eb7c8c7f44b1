"""The registry's server beside Debian's docker-registry: a blob of 1 GiB in and out, and many small ones."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench
SIZE = 1 << 30
SMALL = 300
REPEATS = 2
#: Rounds differ by this much on a busy machine; "not slower" means not beyond it.
TOLERANCE = 1.10
#: Memory of the server, in MiB.
MEMORY = 100
PIECE = 1 << 20


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A file that does not compress, and its digest."""
    path, hasher = tmp_path_factory.mktemp("blob") / "blob", hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(SIZE // PIECE):
            piece = os.urandom(PIECE)
            hasher.update(piece)
            file.write(piece)
    yield path, f"sha256:{hasher.hexdigest()}"
    path.unlink()


@contextmanager
def running(name: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start a registry with an empty directory of its own; yields its port and process."""
    folder = Path(tempfile.mkdtemp(prefix="fz"))
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if name == "ours":
        command = [str(Path(sys.executable).with_name("fuseml-registry")), "serve", "--root", str(folder / "data"), "--port",
                   str(port)]
    else:
        found = shutil.which("docker-registry")
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("docker-registry is not installed: apt-get install it")
        config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
                  "http": {"addr": f"127.0.0.1:{port}"}, "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}}
        (folder / "config.json").write_text(json.dumps(config))
        command = [found, "serve", str(folder / "config.json")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port, process
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None,
        headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
    return connection.getresponse()


def put(port: int, blob: tuple[Path, str]) -> float:
    """Seconds until a blob is in the registry, verified and durable as the registry understands it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.blocksize = PIECE
    began = time.perf_counter()
    answer = ask(connection, "POST", "/v2/bench/blobs/uploads/")
    answer.read()
    location = answer.headers["Location"].split(f":{port}", 1)[-1]
    location += f"{'&' if '?' in location else '?'}digest={blob[1]}"
    with blob[0].open("rb") as file:
        answer = ask(connection, "PUT", location, file, {"Content-Length": str(SIZE),
                                                         "Content-Type": "application/octet-stream"})
    answer.read()
    connection.close()
    assert answer.status == 201
    return time.perf_counter() - began


def get(port: int, digest: str) -> float:
    """Seconds until a blob has come back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    began = time.perf_counter()
    answer = ask(connection, "GET", f"/v2/bench/blobs/{digest}")
    buffer, count = bytearray(PIECE), 0
    while read := answer.readinto(buffer):
        count += read
    connection.close()
    assert count == SIZE
    return time.perf_counter() - began


def small(port: int) -> float:
    """Seconds for 300 blobs of 4 KiB on one connection, as clients push them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    pieces = [os.urandom(4096) for _ in range(SMALL)]
    began = time.perf_counter()
    for data in pieces:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        ask(connection, "HEAD", f"/v2/bench/blobs/{digest}").read()
        answer = ask(connection, "POST", "/v2/bench/blobs/uploads/")
        answer.read()
        location = answer.headers["Location"].split(f":{port}", 1)[-1]
        location += f"{'&' if '?' in location else '?'}digest={digest}"
        answer = ask(connection, "PUT", location, data)
        answer.read()
        assert answer.status == 201
    connection.close()
    return time.perf_counter() - began


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Most memory that a process has held, in MiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel does not tell")


def test_r65_one_gibibyte_in_and_out_is_not_slower_than_docker_registry(blob: tuple[Path, str]) -> None:
    found: dict[str, dict[str, float]] = {}
    for _ in range(REPEATS):  # in turns, so that both meet the same moods of the disk
        for name in ("docker-registry", "ours"):
            with running(name) as (port, process):
                measured = {"small": small(port), "put": put(port, blob)}
                measured["get"] = min(get(port, blob[1]) for _ in range(3))
                measured["memory"] = peak_memory(process)
            os.sync()
            former = found.setdefault(name, measured)
            found[name] = {key: (max if key == "memory" else min)(value, former[key]) for key, value in measured.items()}
    ours, theirs = found["ours"], found["docker-registry"]
    sys.stderr.write(f"\n{'':12}{'ours':>10}{'docker-registry':>17}{'ratio':>8}\n")
    for key, label in (("put", "PUT 1 GiB"), ("get", "GET 1 GiB"), ("small", "300 x 4 KiB"), ("memory", "peak MiB")):
        sys.stderr.write(f"{label:12}{ours[key]:10.2f}{theirs[key]:17.2f}{ours[key] / theirs[key]:8.2f}\n")
    assert ours["put"] <= TOLERANCE * theirs["put"]
    assert ours["get"] <= TOLERANCE * theirs["get"]
    assert ours["memory"] <= MEMORY
