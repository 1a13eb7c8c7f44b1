"""Pushing and pulling beside skopeo, against the same docker-registry in one run (R65, DESIGN 10)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes, digest_file
from fuseml_oci.layout import blob_name, start_layout, write_index

pytestmark = pytest.mark.bench
SIZE, PIECE = 1 << 30, 1 << 20
ROUNDS = 2
EMPTY = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
#: Runs in a process of its own, so that its memory can be measured; prints seconds and the largest RSS in MiB.
CHILD = """
import json, pathlib, sys, time
from fuseml_oci.batches import download_all, upload_all
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
host, repository, way, tag, manifest, *items = json.loads(sys.stdin.read())
blobs = [(pathlib.Path(path), Descriptor("application/x-bytes", digest, size)) for path, digest, size in items]
began = time.perf_counter()
with RegistryClient(host) as client:
    if way == "push":
        upload_all(client, repository, blobs)
        client.push_manifest(repository, tag, manifest.encode(), "application/vnd.oci.image.manifest.v1+json")
    else:
        assert client.get_manifest(repository, tag)[0] == manifest.encode()
        download_all(client, repository, [(blob, path) for path, blob in blobs])
seconds = time.perf_counter() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) / 1024]))
"""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry of Debian."""
    folder, command = tmp_path_factory.mktemp("docker-registry"), tool("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    (folder / "config.json").write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": {"addr": address},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}}))
    process = subprocess.Popen([command, "serve", str(folder / "config.json")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        with RegistryClient(address) as client:
            client.ping()
        yield address
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def ours(*work: object, blobs: list[tuple[str, str, int]]) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", CHILD], input=json.dumps([*work, *blobs]), capture_output=True,
                          text=True, check=True, timeout=300)
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def skopeo(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([tool("skopeo"), "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", *arguments],
                   check=True, timeout=300, capture_output=True)
    return time.perf_counter() - began


def random_layout(folder: Path) -> tuple[Path, Descriptor, bytes]:
    """Write a layout with one blob of 1 GiB that nobody has seen; returns it, the blob, and the manifest."""
    start_layout(folder)
    (folder / "blobs/sha256").mkdir(parents=True)
    draft = folder / "blobs/sha256/draft"
    with draft.open("wb") as file:
        for _ in range(SIZE // PIECE):
            file.write(os.urandom(PIECE))
    digest, size = digest_file(draft)
    layer = Descriptor("application/x-bytes", digest, size)
    manifest = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "application/x-bench",
                               "config": EMPTY, "layers": [layer.to_json()]})
    draft.rename(folder / blob_name(digest))
    entry = descriptor_of(manifest, media.MANIFEST, {media.REF_NAME: "v1"})
    for data, name in ((manifest, entry.digest), (media.EMPTY_BYTES, media.EMPTY_DIGEST)):
        (folder / blob_name(name)).write_bytes(data)
    write_index(folder, [entry])
    return folder, layer, manifest


def test_r65_one_gibibyte_is_pushed_and_pulled_as_fast_as_by_skopeo_in_little_memory(host: str, tmp_path: Path) -> None:
    times: dict[str, list[float]] = {name: [] for name in ("push", "pull", "skopeo push", "skopeo pull")}
    peaks = []
    for number in range(ROUNDS):
        folder, layer, manifest = random_layout(tmp_path / "layout")
        names = [f"bench/ours{number}", f"bench/theirs{number}"]
        blobs = [(str(folder / blob_name(d)), d, size) for d, size in ((layer.digest, layer.size),
                                                                       (media.EMPTY_DIGEST, 2))]
        for name, way in zip(names, (0, 1), strict=True):
            if way == number % 2:  # whoever is second finds a busier disk: take turns
                seconds, peak = ours(host, name, "push", "v1", manifest.decode(), blobs=blobs)
                times["push"].append(seconds)
                peaks.append(peak)
            else:
                times["skopeo push"].append(skopeo(f"oci:{folder}:v1", f"docker://{host}/{name}:v1"))
        shutil.rmtree(folder)
        for way in (number % 2, 1 - number % 2):
            name = names[number % 2]
            if way:
                seconds, peak = ours(host, name, "pull", "v1", manifest.decode(),
                                     blobs=[(str(tmp_path / "out" / b[1]), b[1], b[2]) for b in blobs])
                times["pull"].append(seconds)
                peaks.append(peak)
            else:
                times["skopeo pull"].append(skopeo(f"docker://{host}/{name}:v1", f"oci:{tmp_path}/out:v1"))
            shutil.rmtree(tmp_path / "out")
    best = {name: min(found) for name, found in times.items()}
    for way in ("push", "pull"):
        sys.stderr.write(f"\n{way} 1 GiB: {best[way]:.1f} s, skopeo {best[f'skopeo {way}']:.1f} s, "
                         f"ratio {best[way] / best[f'skopeo {way}']:.2f}, all {times}")
    sys.stderr.write(f"\nlargest RSS {max(peaks):.0f} MiB\n")
    assert best["push"] <= 1.2 * best["skopeo push"]
    assert best["pull"] <= 1.2 * best["skopeo pull"]
    assert max(peaks) <= 64


def test_r65_three_hundred_small_layers_are_pushed_within_three_seconds(host: str, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    pushed, pulled, peaks = [], [], []
    for number in range(ROUNDS):
        blobs = []
        for layer in range(300):
            data = os.urandom(4096)
            path = tmp_path / "layers" / f"{number}-{layer}"
            path.write_bytes(data)
            blobs.append((str(path), digest_bytes(data), len(data)))
        layers = [Descriptor("application/x-bytes", digest, size).to_json() for _, digest, size in blobs]
        manifest = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": layers[0],
                                   "artifactType": "application/x-bench", "layers": layers}).decode()
        repository = f"bench/small{number}"
        for way, times in (("push", pushed), ("pull", pulled)):
            seconds, peak = ours(host, repository, way, "v1", manifest, blobs=[
                (path if way == "push" else f"{path}-back", digest, size) for path, digest, size in blobs])
            times.append(seconds)
            peaks.append(peak)
    sys.stderr.write(f"\n300 layers of 4 KiB: push {min(pushed):.1f} s, pull {min(pulled):.1f} s, largest RSS "
                     f"{max(peaks):.0f} MiB\n")
    assert min(pushed) <= 3
    assert max(peaks) <= 64
