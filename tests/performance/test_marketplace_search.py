"""Search over 5 000 packages through the pages' own HTTP interface, beside SQLite's full-text index in the same run."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sqlite3
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_registry.pages.app import create_app
from fuseml_registry.storage import Storage

pytestmark = pytest.mark.bench

PACKAGES = 5_000
VERSIONS = 3
WORDS = (
    "train", "serve", "churn", "forecast", "vision", "tabular", "text", "graph", "drift", "monitor", "explain",
    "label", "store", "stream", "batch", "kafka", "spark", "torch", "sklearn", "xgboost", "onnx", "triton", "feature",
    "warehouse", "audio", "speech", "rank", "recommend", "segment", "cluster", "anomaly", "quality",
)
LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause", "MPL-2.0")
QUERIES = ("", "?q=churn", "?q=train+tabular", "?q=onnx&kind=template", "?licence=MIT&sort=newest", "?q=dri&namespace=team3",
           "?kind=runnable&fits=yes&page=7", "?q=nothing-like-this", "?q=a&sort=size", "?q=package-4711")


def fill(root: Path) -> list[tuple[str, str]]:
    """Write packages as the registry keeps them; the registry itself would sync each of 60 000 files to the disk."""
    storage, made, chance = Storage(root), [], random.Random(7)
    for number in range(PACKAGES):
        name, repository = f"package-{number}", f"team{number % 20}/package-{number}"
        summary = " ".join(chance.sample(WORDS, 8))
        made.append((name, summary))
        for version in range(VERSIONS):
            config = json.dumps({"api_version": "fuseml.io/v1", "manifest": {
                "name": name, "version": f"1.{version}.0", "summary": summary, "licence": LICENCES[number % 4],
                "description": " ".join(chance.choices(WORDS, k=60))},
                "templates": [{"name": chance.choice(WORDS), "steps": {"a": {"runnable": "run"}}}] if number % 3 else [],
                "runnables": [{"name": "run", "command": ["x"]}]}).encode()
            manifest = canonical_json({
                "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.EXTENSION, "layers": [],
                "config": {"mediaType": media.EXTENSION_CONFIG, "digest": digest_bytes(config), "size": len(config)}})
            write(storage.blob_path(digest_bytes(config)), config)
            write(storage.blob_path(digest_bytes(manifest)), manifest)
            write(storage.link_path(repository, "_manifests", digest_bytes(manifest)), media.MANIFEST.encode())
            write(storage.repository(repository) / "_tags" / f"1.{version}.0", digest_bytes(manifest).encode())
    return made


def write(path: Path, data: bytes) -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


async def get(app: Any, path: str) -> bytes:
    """Ask the application itself; a socket would add the same to every answer."""
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200, path
        parts.append(message.get("body", b""))

    route, _, query = path.partition("?")
    await app({"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "/marketplace",
               "path": f"/marketplace{route}", "raw_path": route.encode(), "query_string": query.encode(),
               "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}, receive, send)
    return b"".join(parts)


async def times(app: Any, prefix: str, rounds: int) -> list[float]:
    """Milliseconds of each of the queries, several times over."""
    found = []
    for _ in range(rounds):
        for query in QUERIES:
            began = time.perf_counter()
            await get(app, f"{prefix}{query}")
            found.append((time.perf_counter() - began) * 1000)
    return found


def sqlite_times(made: list[tuple[str, str]], rounds: int) -> list[float]:
    """Milliseconds of the same words against FTS5, which neither counts facets nor makes a page."""
    base = sqlite3.connect(":memory:")
    base.execute("create virtual table p using fts5(name, summary, tokenize='trigram')")
    base.executemany("insert into p values (?, ?)", made)
    found = []
    for _ in range(rounds):
        for word in ("churn", "train tabular", "onnx", "dri", "nothing", "package-4711"):
            quoted = " ".join(f'"{part}"' for part in word.split())
            began = time.perf_counter()
            base.execute("select name, count(*) over () from p where p match ? order by rank limit 20", (quoted,)).fetchall()
            found.append((time.perf_counter() - began) * 1000)
    return found


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1]


def test_r169_search_over_5000_packages_takes_at_most_20_ms(tmp_path, capsys):
    """p95 of pages and of JSON, refreshing included; the first index; what a change costs; memory."""
    made = fill(tmp_path)
    time.sleep(0.2)
    tracemalloc.start()
    app = create_app({"root": tmp_path, "engine": "0.1.0"})
    began = time.perf_counter()
    asyncio.run(get(app, "/"))
    first = time.perf_counter() - began
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    app = create_app({"root": tmp_path, "engine": "0.1.0"})
    began = time.perf_counter()
    asyncio.run(get(app, "/"))
    first = min(first, time.perf_counter() - began)
    pages, documents = asyncio.run(times(app, "/", 40)), asyncio.run(times(app, "/api/search", 40))
    peer = sqlite_times(made, 40)
    write(tmp_path / "repositories/team0/package-0/_tags/1.9.0",
          (tmp_path / "repositories/team0/package-0/_tags/1.2.0").read_bytes())
    time.sleep(1.1)
    began = time.perf_counter()
    page = asyncio.run(get(app, "/?q=package-0"))
    change = (time.perf_counter() - began) * 1000
    with capsys.disabled():
        print(f"\nsearch over {PACKAGES} packages, p50/p95 ms: pages {statistics.median(pages):.1f}/{p95(pages):.1f} (max "
              f"{max(pages):.0f}), JSON {statistics.median(documents):.1f}/{p95(documents):.1f}; SQLite FTS5 alone "
              f"{statistics.median(peer):.1f}/{p95(peer):.1f}; first index {first:.1f} s, first answer after a change "
              f"{change:.0f} ms, index in memory {memory >> 20} MiB, process "
              f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != 'darwin' else 1 << 20)} MiB")
    assert b"1.9.0" in page
    assert p95(pages) <= 20
    assert p95(documents) <= 20
    assert memory < 100 << 20
