"""Other people's clients against our registry: plain oras-py both ways, skopeo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import oras.client
import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes


def push(client: RegistryClient, name: str, tag: str) -> tuple[bytes, bytes]:
    data = b"some content" * 1000
    client.push_blob(name, b"{}", media.EMPTY_DIGEST, media.EMPTY)
    layer = client.push_blob(name, data, digest_bytes(data), "application/vnd.fuseml.example")
    document = {"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "application/vnd.fuseml.example",
                "config": {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2},
                "layers": [{**layer.to_json(), "annotations": {media.TITLE: "content.bin"}}]}
    manifest = canonical_json(document)
    client.push_manifest(name, tag, manifest, media.MANIFEST)
    return manifest, data


def test_oras_pulls_what_our_client_pushed(server, client, tmp_path):
    _, data = push(client, "interop/ours", "1.0.0")
    files = oras.client.OrasClient(insecure=True).pull(f"{server.host}/interop/ours:1.0.0", outdir=str(tmp_path))
    assert [Path(f).read_bytes() for f in files] == [data]


@pytest.mark.parametrize("chunked", [False, True], ids=["monolithic", "chunked"])
def test_our_client_pulls_what_oras_pushed(server, client, tmp_path, chunked):
    source, name = tmp_path / "source.bin", f"interop/theirs-{chunked}".lower()
    source.write_bytes(b"theirs" * 100_000)
    oras.client.OrasClient(insecure=True).push(
        f"{server.host}/{name}:latest", files=[f"{source}:application/octet-stream"],
        disable_path_validation=True, do_chunked=chunked, chunk_size=100_000)
    manifest, _, _ = client.get_manifest(name, "latest")
    layer = read_descriptor(read_object(manifest, "manifest")["layers"][0], "layer")
    client.pull_blob(name, layer, tmp_path / "pulled.bin")
    assert (tmp_path / "pulled.bin").read_bytes() == source.read_bytes()


def test_oras_lists_and_deletes_tags(server, client):
    push(client, "interop/tags", "one")
    push(client, "interop/tags", "two")
    theirs = oras.client.OrasClient(insecure=True)
    assert theirs.get_tags(f"{server.host}/interop/tags") == ["one", "two"]
    assert theirs.delete_tags(f"{server.host}/interop/tags", "one") == ["one"]


def skopeo(*arguments: str) -> bytes:
    command = shutil.which("skopeo")
    if command is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")
    return subprocess.run([command, *arguments], check=True, capture_output=True, timeout=120).stdout


def test_skopeo_copies_out_and_in_without_changing_a_byte(server, client, tmp_path):
    manifest, _ = push(client, "interop/skopeo", "2.0.0")
    layout, ours = f"oci:{tmp_path / 'layout'}:x", f"docker://{server.host}/interop/skopeo"
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"{ours}:2.0.0") == manifest
    skopeo("copy", "--src-tls-verify=false", f"{ours}:2.0.0", layout)
    skopeo("copy", "--dest-tls-verify=false", layout, f"docker://{server.host}/interop/skopeo-back:3.0.0")
    assert client.get_manifest("interop/skopeo-back", "3.0.0")[0] == manifest
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", ours))
    assert listed["Tags"] == ["2.0.0"]
