"""Carrying the wheels of a lock: chosen as an installer would, checked by hash, their URLs kept nowhere."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fuseml_oci.bundles import build, open_layout, push, write
from fuseml_oci.bundles.lint import lint_source
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.bundles.targets import PLATFORMS, best_wheel, target
from fuseml_oci.bundles.transfer import pull
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.bundles.vendoring import collect, hashes_of, vendor
from fuseml_oci.client import RegistryClient
from fuseml_sdk.environments import IndexSettings, ensure_environment, find_python
from fuseml_sdk.errors import InvalidInput, NotReady, PluginError


def wheel(name: str, version: str, tag: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return f"{name}-{version}-{tag}.whl", buffer.getvalue()


class Index:
    """A package index on a loopback port, with files that a test may damage."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.served: dict[str, bytes] = {}
        self.asked: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                parts = self.path.strip("/").split("/")
                if parts[0] == "simple":
                    links = "".join(f'<a href="/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
                                    for name, data in index.files.items() if name.startswith(f"{parts[1]}-"))
                    body, kind = f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html"
                else:
                    body, kind = index.served.get(parts[-1], index.files.get(parts[-1], b"")), "application/zip"
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, name: str, version: str, *tags: str) -> None:
        self.files.update(wheel(name, version, tag) for tag in tags)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def lock(self, *names: str, marker: str = "") -> str:
        """A lock of everything that is there."""
        lines = []
        for name in names:
            hashes = [hashlib.sha256(data).hexdigest() for file, data in self.files.items() if file.startswith(f"{name}-")]
            lines.append(f"{name}==1.0{marker} \\\n" + " \\\n".join(f"    --hash=sha256:{each}" for each in hashes))
        return "\n".join(lines) + "\n"


@pytest.fixture
def index() -> Iterator[Index]:
    running = Index()
    running.add("pure", "1.0", "py3-none-any")
    running.add("fast", "1.0", "cp311-cp311-manylinux_2_17_x86_64", "cp312-cp312-manylinux_2_17_x86_64",
                "cp311-abi3-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_39_x86_64", "cp312-cp312-macosx_11_0_arm64",
                "cp312-cp312-musllinux_1_2_x86_64")
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def settings(index: Index) -> IndexSettings:
    return IndexSettings(index_url=index.url)


@pytest.mark.parametrize(("python", "platform", "expected"), [
    ("3.11", "linux-x86_64", "cp311-cp311-manylinux_2_17_x86_64"),
    ("3.12", "linux-x86_64", "cp312-cp312-manylinux_2_17_x86_64"),
    ("3.13", "linux-x86_64", "cp311-abi3-manylinux_2_28_x86_64"),
    ("3.12", "macos-arm64", "cp312-cp312-macosx_11_0_arm64"),
])
def test_r170_the_wheel_that_an_installer_would_take_is_carried(index, tmp_path, python, platform, expected):
    (tmp_path / "requirements.lock").write_text(index.lock("fast", "pure"))
    found = collect(tmp_path / "requirements.lock", python, tmp_path / "out", settings(index), platform=platform)
    assert [path.name for path in found] == [f"fast-1.0-{expected}.whl", "pure-1.0-py3-none-any.whl"]
    assert all(path.read_bytes() == index.files[path.name] for path in found)
    index.asked.clear()
    again = collect(tmp_path / "requirements.lock", python, tmp_path / "out", settings(index), platform=platform)
    assert again == found
    assert not [path for path in index.asked if path.startswith("/files/fast")], "what is there is not fetched again"


def test_a_package_without_a_wheel_for_the_target_is_named(index, tmp_path):
    (tmp_path / "requirements.lock").write_text(index.lock("fast"))
    with pytest.raises(InvalidInput, match="fast.*no wheel"):
        collect(tmp_path / "requirements.lock", "3.12", tmp_path / "out", settings(index), platform="linux-aarch64")


def test_a_package_that_the_target_does_not_need_is_left_out(index, tmp_path):
    (tmp_path / "requirements.lock").write_text(
        index.lock("pure") + index.lock("fast", marker=" ; sys_platform == 'win32'"))
    found = collect(tmp_path / "requirements.lock", "3.12", tmp_path / "out", settings(index), platform="linux-x86_64")
    assert [path.name for path in found] == ["pure-1.0-py3-none-any.whl"]


def test_a_file_that_is_not_the_locked_one_is_refused(index, tmp_path):
    (tmp_path / "requirements.lock").write_text(index.lock("pure"))
    index.served["pure-1.0-py3-none-any.whl"] = wheel("pure", "1.0", "py2-none-any")[1]
    with pytest.raises(InvalidInput, match="is not the one in the lock"):
        collect(tmp_path / "requirements.lock", "3.12", tmp_path / "out", settings(index), platform="linux-x86_64")
    assert list((tmp_path / "out").iterdir()) == []


def test_offline_only_what_is_at_hand_is_carried(index, tmp_path):
    (tmp_path / "requirements.lock").write_text(index.lock("pure"))
    with pytest.raises(PluginError) as raised:
        collect(tmp_path / "requirements.lock", "", tmp_path / "out", IndexSettings(index_url=index.url, offline=True))
    assert isinstance(raised.value, NotReady)


def test_targets_are_checked():
    with pytest.raises(InvalidInput, match="minor version"):
        target("3.12.1")
    with pytest.raises(InvalidInput, match="linux-x86_64"):
        target("3.12", "windows")
    assert {target("3.12", name).triple for name in PLATFORMS} == set(PLATFORMS.values())
    assert best_wheel(["x-1.0-py3-none-any.whl", "../x.whl", "x.whl"], target()) == "x-1.0-py3-none-any.whl"


def source_of(folder: Path, lock: str) -> Path:
    (folder / "files").mkdir(parents=True)
    (folder / "runnables").mkdir()
    (folder / "extension.toml").write_text(
        'name = "carrier"\nversion = "1.0.0"\nsummary = "Carries wheels."\n[environment]\n')
    (folder / "requirements.lock").write_text(lock)
    (folder / "runnables/x.json").write_text(json.dumps({"name": "x", "command": ["{python}", "-V"]}))
    return folder


def test_r170_an_environment_is_made_of_carried_wheels_without_an_index(index, registry, tmp_path):
    """Built with the index, pushed, pulled, unpacked; then the index is gone and the cache of uv is empty."""
    source = source_of(tmp_path / "source", index.lock("fast", "pure"))
    wheels = vendor(source, tmp_path / "cache", pythons=["3.11", "3.12"], platforms=["linux-x86_64"], index=settings(index))
    built = build(source, vendored=wheels)
    assert index.url not in built.manifest.decode() + built.descriptor.encode().decode()
    layout = open_layout(write(built, tmp_path / "carrier.oci.tar"))
    assert layout.descriptor.manifest.environment.vendored == [path.name for path in wheels]
    assert build(source, vendored=list(reversed(wheels))).digest == layout.digest
    with RegistryClient(registry.host) as client:
        place = push(layout, read_reference("carrier", registry.host), client)
        bundle = unpack(pull(place, client, tmp_path / "content"), tmp_path / "out")
    index.close()
    lock, python = (bundle / "requirements.lock").read_text(), find_python()[0]
    for name, links in (("with", bundle / "vendored"), ("without", None)):
        try:
            made = ensure_environment(tmp_path / name, lock=lock, python=python, links=links,
                                      index=IndexSettings(index_url=index.url, offline=True))
        except PluginError:
            assert name == "without"
            continue
        assert name == "with"
        assert next(made.path.glob("lib/python*/site-packages/fast.py")).is_file()


def test_versions_of_a_bundle_share_the_layers_of_wheels(index, tmp_path):
    source = source_of(tmp_path / "source", index.lock("pure"))
    wheels = vendor(source, tmp_path / "cache", index=settings(index))
    first = build(source, vendored=wheels)
    (source / "extension.toml").write_text((source / "extension.toml").read_text().replace("1.0.0", "1.1.0"))
    second = build(source, vendored=wheels)
    assert first.digest != second.digest
    (layer,) = [layer.digest for layer in first.descriptor.layers if layer.kind == "vendored"]
    assert layer in second.blobs


def test_hashes_are_read_by_normalised_name():
    assert hashes_of(f"Foo.Bar_x[y]==1 \\\n    --hash=sha256:{'a' * 64}\nother==2 --hash=sha256:{'b' * 64}\n") == {
        "foo-bar-x": frozenset({"a" * 64}), "other": frozenset({"b" * 64})}


def test_a_bundle_without_a_lock_has_nothing_to_carry(index, tmp_path):
    source = source_of(tmp_path / "source", "")
    (source / "requirements.lock").unlink()
    with pytest.raises(InvalidInput, match="has no lock"):
        vendor(source, tmp_path / "cache", index=settings(index))


def test_locks_of_runnables_are_carried_too(index, tmp_path):
    """Also in a bundle without an environment of its own; the runnable's environment is then made without an index."""
    source = source_of(tmp_path / "source", index.lock("pure"))
    (source / "requirements.lock").unlink()
    (source / "extension.toml").write_text('name = "carrier"\nversion = "1.0.0"\nsummary = "Carries wheels."\n')
    (source / "files/train.lock").write_text(index.lock("pure"))
    (source / "runnables/x.json").write_text(json.dumps(
        {"name": "x", "command": ["{python}", "-V"], "environment": {"lock": "files/train.lock"}}))
    wheels = vendor(source, tmp_path / "cache", index=settings(index))
    report, built = lint_source(source, vendored=wheels)
    assert [path.name for path in wheels] == ["pure-1.0-py3-none-any.whl"]
    assert "vendored/pure-1.0-py3-none-any.whl" in [file.path for file in built.descriptor.files]
    assert report.passes()
