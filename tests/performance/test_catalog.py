"""A catalog of 5 000 packages x 20 versions: update, search and resolve, beside a flat index of the same in one run."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions.bundles import RegistryBundles
from fuseml_core.adapters.extensions.marketplaces import Marketplaces
from fuseml_core.adapters.extensions.subscriptions import Subscriptions
from fuseml_core.service.extensions.ports import Wish
from fuseml_core.service.extensions.resolve import Goal, resolve
from fuseml_oci.catalog.contents import Contents, assemble
from fuseml_oci.catalog.format import API_VERSION, Package, encode, moment
from fuseml_oci.catalog.publish import publish
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference
from fuseml_oci.signing.keys import generate
from fuseml_oci.signing.sign import sign

pytestmark = pytest.mark.bench

PACKAGES, VERSIONS, SEARCHES, RESOLUTIONS = 5_000, 20, 200, 20
WORDS = ("train", "serve", "churn", "forecast", "vision", "tabular", "text", "graph", "drift", "monitor", "explain",
         "label", "store", "stream", "batch", "kafka", "spark", "torch", "sklearn", "xgboost", "onnx", "triton")
NOW = moment()
_SERVER = """
import sys, uvicorn
from fuseml_registry.app import standalone_app
uvicorn.run(standalone_app({"root": sys.argv[1]}), fd=int(sys.argv[2]), log_level="error")
"""


def package(number: int, host: str, chance: random.Random, versions: int = VERSIONS) -> Package:
    """A package that needs up to three others; its newer versions want newer ones, so that a resolver has to think."""
    others = sorted({chance.randrange(number // 20) for _ in range(3)}) if number >= 20 else []
    entries = [{
        "version": f"1.{v}.0", "digest": f"sha256:{chance.getrandbits(256):064x}", "size": 10_000,
        "requires_fuseml": ">=0.1,<1", "published_at": NOW, "published_by": "Ana",
        "dependencies": [{"name": f"package-{other}", "range": f">=1.{v // 2},<1.{v // 2 + 12}"} for other in others],
    } for v in range(versions)]
    return Package.model_validate({
        "api_version": API_VERSION, "name": f"package-{number}", "namespace": f"team{number % 50}",
        "repository": f"oci://{host}/team/package-{number}", "summary": " ".join(chance.sample(WORDS, 6)),
        "description": " ".join(chance.choices(WORDS, k=40)), "keywords": chance.sample(WORDS, 3), "kinds": ["runnable"],
        "versions": entries, "channels": {"stable": [{"version": e["version"]} for e in entries]}})


class Meter:
    """Forwards a port to another one and counts what comes back, headers and all."""

    def __init__(self, port: int) -> None:
        self.received = self.sent = 0
        self._target, self._socket = port, socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return  # closed
            far = socket.create_connection(("127.0.0.1", self._target))
            for one, other, name in ((near, far, "sent"), (far, near, "received")):
                threading.Thread(target=self._pump, args=(one, other, name), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, name: str) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))
                other.sendall(data)
        for end in (one, other):  # HTTP ends in both directions at once
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Take no more connections."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(scope="module")
def meter(tmp_path_factory) -> Iterator[Meter]:
    """A registry in a process of its own, reached through a meter."""
    listening = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(tmp_path_factory.mktemp("registry")),
                                str(listening.fileno())], pass_fds=[listening.fileno()])
    counting = Meter(listening.getsockname()[1])
    try:
        yield counting
    finally:
        counting.close()
        process.terminate()
        process.wait(20)
        listening.close()


def test_catalog_of_5000_packages(meter, tmp_path, record_property, capsys):
    """Fetched bytes after one change at most 20 KiB; search p95 at most 20 ms; resolving at most 200 ms."""
    chance, host, key = random.Random(11), f"127.0.0.1:{meter.port}", generate()
    packages = {f"package-{n}": package(n, host, chance) for n in range(PACKAGES)}
    client = RegistryClient(host)
    place = Reference(client.registry, "team/catalog")

    def publish_version(version: int) -> None:
        artifact = assemble(Contents(packages), name="big", version=version, issued=NOW,
                            expires=moment(datetime.now(UTC) + timedelta(days=30)))
        publish(artifact, place, client, lambda reference: sign(client, reference, key))

    publish_version(1)
    marketplaces = Marketplaces(Subscriptions(tmp_path / "marketplaces"),
                                lambda reference: RegistryClient(reference.registry), "0.1.0")
    before, began = meter.received, time.perf_counter()
    marketplaces.add("big", str(place), [key.public.pem.decode()], None, lambda _text: None)
    first, first_bytes = time.perf_counter() - began, meter.received - before

    updates, seconds = [], []
    for version in range(2, 7):
        name = f"package-{chance.randrange(PACKAGES)}"
        packages[name] = package(int(name.partition("-")[2]), host, chance, VERSIONS + 1)
        publish_version(version)
        time.sleep(0.2)  # what is on its way belongs to the publication
        before, began = meter.received, time.perf_counter()
        done = marketplaces.update("big", lambda _text: None)
        seconds.append(time.perf_counter() - began)
        time.sleep(0.2)
        updates.append(meter.received - before)
        assert done["changed"] == [name]
        before = meter.received
    marketplaces.update("big", lambda _text: None)
    time.sleep(0.2)
    unchanged = meter.received - before

    flat = json.dumps([json.loads(encode(entry)) for entry in packages.values()]).encode()
    packages.clear()
    gc.collect()
    gc.freeze()  # what this test made is not what a server has in memory

    search = sorted(_search(marketplaces, chance) for _ in range(SEARCHES))[int(SEARCHES * 0.95)]
    resolving = [_resolve(tmp_path, host, marketplaces, chance) for _ in range(RESOLUTIONS)]
    gc.unfreeze()
    began = time.perf_counter()
    json.loads(flat)
    flat_seconds = time.perf_counter() - began
    resolved = statistics.median(s for s, _ in resolving)
    chosen = statistics.median(count for _, count in resolving)
    rows = [
        ("first fetch", f"{first:.1f} s, {first_bytes / 1024:.0f} KiB", f"flat index, gzip: {len(gzip.compress(flat)) / 1024:.0f} KiB"),
        ("update, one package changed", f"{max(updates) / 1024:.1f} KiB, {statistics.median(seconds) * 1000:.0f} ms",
         f"{len(gzip.compress(flat)) / max(updates):.0f} x less than the flat index"),
        ("update, nothing changed", f"{unchanged / 1024:.1f} KiB", "flat index: a 304"),
        ("search, p95", f"{search * 1000:.1f} ms", ""),
        (f"resolve, {chosen:.0f} chosen", f"median {resolved * 1000:.0f} ms, worst {max(resolving)[0] * 1000:.0f} ms",
         f"reading the flat index: {flat_seconds * 1000:.0f} ms"),
    ]
    with capsys.disabled():
        for row in rows:
            print(f"\n{row[0]:<30} {row[1]:<30} {row[2]}", end="")
    record_property("rows", rows)
    assert max(updates) <= 20 * 1024
    assert search <= 0.020
    assert resolved <= 0.200


def _search(marketplaces: Marketplaces, chance: random.Random) -> float:
    text = " ".join(chance.sample(WORDS, chance.randint(0, 2))) if chance.random() < 0.8 else "package-47"
    began = time.perf_counter()
    hits, _ = marketplaces.search(text=text, channel=chance.choice(("", "stable")), limit=50)
    assert hits.total >= 0
    return time.perf_counter() - began


class _Nothing:
    """No extension is installed."""

    def all(self) -> list[object]:
        return []


def _resolve(folder: Path, host: str, marketplaces: Marketplaces, chance: random.Random) -> tuple[float, int]:
    """Seconds from a name to a set of versions that fit together, and how many those are; the registry is asked, too.

    Each time with nothing in memory, as in a server that has just started.
    """
    fresh = Marketplaces(marketplaces.subscriptions, lambda reference: RegistryClient(reference.registry), "0.1.0")
    bundles = RegistryBundles(lambda: f"http://{host}", folder / "content", _Nothing(), marketplaces=fresh)
    goal = Goal(f"package-{chance.randrange(PACKAGES // 2, PACKAGES)}", None, "")
    began = time.perf_counter()
    chosen = resolve([goal], [], bundles, "0.1.0", Wish())
    return time.perf_counter() - began, len(chosen)
