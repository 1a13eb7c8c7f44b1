"""Exporting and importing a bundle of 256 MiB, beside skopeo copying the same to and from a tar file, in one run."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions.airgap import LayoutExports, LayoutImports, Relocations
from fuseml_core.adapters.extensions.airgap.judging import Judge
from fuseml_core.adapters.extensions.airgap.wheels import WheelCollector, WheelFolder
from fuseml_core.service.extensions.care_ports import Admission, ExportItem, Target
from fuseml_core.service.extensions.ports import FoundBundle
from fuseml_oci.bundles import build, push
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference, parse

pytestmark = pytest.mark.bench

SIZE = 256 << 20
#: An import writes everything three times, once for each place where a fault must change nothing: the file that was
#: received, what was unpacked and verified, the registry. skopeo writes twice.
LIMIT = {"export": 2.5, "import": 4.0}
SERVER = """
import sys, uvicorn
from fuseml_registry.app import standalone_app
uvicorn.run(standalone_app({"root": sys.argv[1]}), port=int(sys.argv[2]), log_level="error", lifespan="off")
"""


@contextmanager
def serving(root: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(root), str(port)])
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def test_archives_are_about_as_fast_as_copies_of_skopeo(tmp_path: Path):
    # Two registries: from one to itself, skopeo mounts blobs instead of sending them.
    with serving(tmp_path / "source") as source, serving(tmp_path / "target") as target:
        _compare(source, target, tmp_path)


def _compare(registry: str, other: str, tmp_path: Path) -> None:
    skopeo = shutil.which("skopeo") or pytest.fail("skopeo is not installed: apt-get install it")
    pushed, found = _bundle(registry, tmp_path)
    archive = tmp_path / "our.tar"

    def export() -> None:
        exports = LayoutExports(tmp_path / "transfers", tmp_path, RegistryClient.for_reference, lambda r: r,
                                lambda: WheelCollector(lambda *_a: []))
        made = exports.make([ExportItem(found, True)], "", Target(), lambda _t: None)
        with archive.open("wb") as file:
            file.writelines(exports.open(made.id)[1])
            os.fsync(file.fileno())

    def take_in() -> None:
        policy = tmp_path / "policy.toml"
        policy.write_text("version = 1\n[[rule]]\nmatch = \"**\"\nkeys = \"marketplace\"\n")
        imports = LayoutImports(tmp_path / "imports", lambda: RegistryClient(other, insecure=True), Judge(policy),
                                Relocations(tmp_path / "moved.json"), WheelFolder(tmp_path / "wheels"))
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            received = 0
            while piece := file.read(8 << 20):
                received = imports.receive(digest, received, piece)
        imports.admit(digest, Admission(allow_unsigned=True), lambda _t: None)

    image = f"docker://{pushed.registry}/{pushed.repository}@{pushed.digest}"
    theirs = f"oci-archive:{tmp_path}/their.tar"
    ours_out = timed(export)
    peer_out = timed(lambda: _run(skopeo, "copy", "-q", "--src-tls-verify=false", image, theirs))
    peer_in = timed(lambda: _run(skopeo, "copy", "-q", "--dest-tls-verify=false", theirs,
                                 f"docker://{other}/peer/big:1"))
    ours_in = timed(take_in)
    print(f"\n{'':8} {'FuseML s':>10} {'skopeo s':>10} {'ratio':>6}")
    for name, ours, peer in (("export", ours_out, peer_out), ("import", ours_in, peer_in)):
        print(f"{name:8} {ours:10.2f} {peer:10.2f} {ours / peer:6.2f}")
    assert ours_out <= LIMIT["export"] * peer_out
    assert ours_in <= LIMIT["import"] * peer_in


def _bundle(registry: str, tmp_path: Path) -> tuple[Reference, FoundBundle]:
    source = tmp_path / "big"
    (source / "files").mkdir(parents=True)
    (source / "files/data.bin").write_bytes(os.urandom(SIZE))
    (source / "runnables").mkdir()
    (source / "runnables/look.json").write_text(
        '{"kind": "custom", "name": "look", "description": "Looks.", "command": ["{python}", "-V"]}')
    (source / "extension.toml").write_text(
        'name = "big"\nversion = "1.0.0"\nsummary = "A large file."\nlicence = "Apache-2.0"\n')
    built = build(source)
    place = parse(f"oci://{registry}/here/big")
    with RegistryClient.for_reference(place) as client:
        pushed = push(built, place, client)
    return pushed, FoundBundle(str(pushed), pushed.digest, built.descriptor.model_dump(mode="json", by_alias=True))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=300, capture_output=True)
