"""Environments whose distributions lie in the cache already: the index is not asked again."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fuseml_sdk.environments import IndexSettings, ensure_environment, find_python
from fuseml_sdk.errors import InvalidInput

PYTHON = find_python()[0]
NAME = "tiny-1.0-py3-none-any.whl"


def wheel_bytes(folder) -> bytes:
    info = "tiny-1.0.dist-info"
    files = {"tiny.py": "VALUE = 1\n", f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return (folder / NAME).read_bytes()


@pytest.fixture
def package_index(tmp_path) -> Iterator[tuple[IndexSettings, str, list[str]]]:
    """An index with one distribution; its settings, the lock, and the paths that were asked for."""
    data, asked = wheel_bytes(tmp_path), []
    digest = hashlib.sha256(data).hexdigest()
    page = f'<!DOCTYPE html><html><body><a href="/files/{NAME}#sha256={digest}">{NAME}</a></body></html>'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body, kind = (data, "application/octet-stream") if self.path.endswith(".whl") else (page.encode(), "text/html")
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield (IndexSettings(index_url=f"http://127.0.0.1:{server.server_address[1]}/simple"),
           f"tiny==1.0 --hash=sha256:{digest}\n", asked)
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_lock_that_is_in_the_cache_is_installed_without_asking_the_index(tmp_path, package_index, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index, lock, asked = package_index
    first = ensure_environment(tmp_path / "a", lock=lock, python=PYTHON, index=index)
    assert any(path.endswith(".whl") for path in asked)
    asked.clear()
    again = ensure_environment(tmp_path / "b", lock=lock, python=PYTHON, index=index)
    assert asked == []
    assert again.built
    assert (first.digest, list(again.path.glob("lib/*/site-packages/tiny.py")) != []) == (again.digest, True)


def test_a_wrong_hash_is_refused_though_the_distribution_is_in_the_cache(tmp_path, package_index, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index, lock, _ = package_index
    ensure_environment(tmp_path / "a", lock=lock, python=PYTHON, index=index)
    with pytest.raises(InvalidInput, match="Hash mismatch"):
        ensure_environment(tmp_path / "a", lock=f"tiny==1.0 --hash=sha256:{'0' * 64}\n", python=PYTHON, index=index)
