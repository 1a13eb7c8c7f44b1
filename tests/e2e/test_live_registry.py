"""The registry of a running server, through its data process, with other people's clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import oras.client
import pytest


@pytest.fixture
def host(numbers) -> str:
    """`host:port` of the running server."""
    return urlsplit(numbers.base_url).netloc


def _ask(url: str, method: str = "GET") -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def _skopeo(*arguments: str) -> bytes:
    command = shutil.which("skopeo")
    if command is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")
    return subprocess.run([command, *arguments], check=True, capture_output=True, timeout=60).stdout


def _digest(host: str, repository: str, tag: str) -> str:
    status, headers, _ = _ask(f"http://{host}/v2/{repository}/manifests/{tag}", "HEAD")
    assert status == 200
    return headers["Docker-Content-Digest"]


def _copy(host: str, repository: str, layout: Path) -> None:
    """Copy the bundle of `numbers` to an image layout and from there to another repository."""
    _skopeo("copy", "--src-tls-verify=false", f"docker://{host}/extensions/numbers:0.1.0", f"oci:{layout}:x")
    _skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{host}/{repository}:0.1.0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_registry_says_that_it_is_one(host, method):
    """Clients ask `/v2/` first, and look for the version of the interface in a header."""
    status, headers, body = _ask(f"http://{host}/v2/", method)

    assert status == 200
    assert headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert headers["Content-Type"] == "application/json"
    assert body == (b"{}" if method == "GET" else b"")


def test_errors_are_those_of_a_registry(host):
    """A client that knows registries understands what is missing."""
    status, headers, body = _ask(f"http://{host}/v2/no-such/tags/list")

    assert (status, headers["Content-Type"]) == (404, "application/json")
    assert json.loads(body)["errors"][0]["code"] == "NAME_UNKNOWN"


def test_plain_oras_pushes_and_pulls(host, tmp_path):
    """Files of any type travel there and back, in one piece and in chunks."""
    source, client = tmp_path / "data.bin", oras.client.OrasClient(insecure=True)
    source.write_bytes(b"data" * 500_000)

    for chunked in (False, True):
        target = f"{host}/e2e/oras:{'chunked' if chunked else 'whole'}"
        client.push(target, files=[f"{source}:application/octet-stream"], disable_path_validation=True,
                    do_chunked=chunked, chunk_size=300_000)
        folder = tmp_path / target.rpartition(":")[2]
        (pulled,) = client.pull(target, outdir=str(folder))
        assert Path(pulled).read_bytes() == source.read_bytes()
    assert client.get_tags(f"{host}/e2e/oras") == ["chunked", "whole"]


def test_skopeo_copies_a_bundle_out_and_in_unchanged(numbers, host, tmp_path):
    """Registry, image layout, another repository: the digest stays, and `fuseml` reads the layout, too."""
    _copy(host, "mirror/numbers", tmp_path / "layout")

    before = _digest(host, "extensions/numbers", "0.1.0")
    assert _digest(host, "mirror/numbers", "0.1.0") == before
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [before]
    pushed = numbers.json("bundle", "push", str(tmp_path / "layout"), f"oci://{host}/third/numbers")
    assert pushed["digest"] == before


def test_an_extension_is_installed_from_another_repository_of_the_server(host, numbers, tmp_path):
    """The same bundle elsewhere is the same extension; what is not there, or is another extension, is refused."""
    _copy(host, "other/numbers", tmp_path / "layout")
    _copy(host, "other/letters", tmp_path / "layout")
    known = numbers.json("extension", "list")

    same = numbers("extension", "install", f"{host}/other/numbers:0.1.0")
    assert "Nothing changed" in same.out
    renamed = numbers("extension", "install", f"{host}/other/letters:0.1.0", code=2)
    assert "contains the extension 'numbers'" in renamed.err
    missing = numbers("extension", "install", f"{host}/other/numbers:9.9.9", code=3)
    assert "other/numbers:9.9.9" in missing.err
    assert numbers.json("extension", "list") == known


@pytest.mark.full
def test_a_copied_bundle_is_installed_where_it_is_new(fuseml, tmp_path):
    """Another server gets the extension by `skopeo`, signs it and installs it from a repository of its choice."""
    fuseml("bundle", "build", "tests/e2e/bundles/numbers", "-o", str(tmp_path / "numbers.oci.tar"))
    fuseml("server", "start")
    host = urlsplit(fuseml.base_url).netloc
    _skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{tmp_path}/numbers.oci.tar:0.1.0",
            f"docker://{host}/other/numbers:0.1.0")

    refused = fuseml("extension", "install", f"{host}/other/numbers:0.1.0", code=5)
    assert f"fuseml bundle sign oci://{host}/other/numbers:0.1.0@sha256:" in refused.err
    fuseml("bundle", "sign", f"{host}/other/numbers:0.1.0")
    fuseml("extension", "install", f"{host}/other/numbers:0.1.0")

    (extension,) = fuseml.json("extension", "list")
    assert (extension["name"], extension["state"]) == ("numbers", "active")
    assert extension["digest"] == _digest(host, "other/numbers", "0.1.0")
    assert f"{host}/other/numbers" in extension["source"]
