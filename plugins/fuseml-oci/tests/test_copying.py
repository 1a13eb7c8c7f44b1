"""Copies between registries and image layouts: whole, unchanged, and repeated without sending anything twice (R172)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import LayoutEntry, LayoutTarget, copy
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout
from fuseml_oci.reference import parse
from fuseml_oci.referring import fallback_tag
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, Retryable

EMPTY = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
LAYERS = [os.urandom(3_000_000), b"small" * 100]


def manifest(kind, layers=(), subject=None, **more):
    document = {"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": kind, "config": EMPTY,
                "layers": [descriptor_of(data, "x/y").to_json() for data in layers] or [EMPTY], **more}
    if subject is not None:
        document["subject"] = descriptor_of(subject, media.MANIFEST).to_json()
    return json.dumps(document, indent=1).encode()  # not canonical: bytes must survive


MAIN = manifest("a/main", LAYERS)
SIGNATURE = manifest("a/signature", [b"signed"], MAIN, annotations={"who": "me"})
SIGNATURE_OF_SIGNATURE = manifest("a/signature", [b"signed twice"], SIGNATURE)
COSIGN = manifest("a/legacy", [b"legacy"])
INDEX = canonical_json({"schemaVersion": 2, "mediaType": media.INDEX, "artifactType": "a/set", "manifests": [
    {**descriptor_of(MAIN, media.MANIFEST).to_json(), "platform": {"os": "linux", "architecture": "amd64"}}]})
MANIFESTS = (MAIN, SIGNATURE, SIGNATURE_OF_SIGNATURE)


def fill(client, repository):
    for data in (b"{}", b"signed", b"signed twice", b"legacy", *LAYERS):
        client.push_blob(repository, data, digest_bytes(data), "x/y")
    client.push_manifest(repository, "v1", MAIN, media.MANIFEST)
    client.push_referrer(repository, SIGNATURE)
    client.push_referrer(repository, SIGNATURE_OF_SIGNATURE)
    client.push_manifest(repository, fallback_tag(digest_bytes(MAIN)) + ".sig", COSIGN, media.MANIFEST)
    client.push_manifest(repository, "set", INDEX, media.INDEX)


def check(client, repository, tag="v1"):
    assert client.get_manifest(repository, tag)[0] == MAIN
    for data in MANIFESTS:
        assert client.get_manifest(repository, digest_bytes(data))[0] == data
    assert client.get_manifest(repository, fallback_tag(digest_bytes(MAIN)) + ".sig")[0] == COSIGN
    found, = client.referrers(repository, digest_bytes(MAIN))
    assert (found.digest, found.artifact_type, found.annotations) == (digest_bytes(SIGNATURE), "a/signature",
                                                                      {"who": "me"})
    assert [d.digest for d in client.referrers(repository, found.digest)] == [digest_bytes(SIGNATURE_OF_SIGNATURE)]
    for data in LAYERS:
        assert client.has_blob(repository, digest_bytes(data))


@pytest.fixture(scope="module")
def ours(registry):
    with RegistryClient(registry.host) as client:
        fill(client, "copy/from")
        yield client


@pytest.fixture(scope="module")
def docker(docker_registry):
    with RegistryClient(docker_registry) as client:
        yield client


def at(client, path):
    return parse(f"oci://{client.registry}/{path}")


def test_r172_from_registry_to_registry_and_back(ours, docker):
    report = copy(at(ours, "copy/from:v1"), at(docker, "copy/there"))
    assert (report.manifests, report.referrers, report.sent, report.mounted) == (4, 3, 6, 0)
    assert report.root.digest == digest_bytes(MAIN)
    check(docker, "copy/there")
    copy(at(docker, "copy/there:v1"), at(ours, "copy/back:again"))
    check(ours, "copy/back", "again")
    again = copy(at(docker, "copy/there:v1"), at(ours, "copy/back:again"))
    assert (again.sent, again.present, again.size) == (0, 6, 0)


def test_within_a_registry_blobs_are_mounted(ours):
    report = copy(at(ours, "copy/from:v1"), at(ours, "copy/mounted"), referrers=False)
    assert (report.sent, report.mounted, report.manifests) == (0, 3, 1)
    assert ours.referrers("copy/mounted", digest_bytes(MAIN)) == []


@pytest.mark.parametrize("name", ["layout", "layout.tar"])
def test_r172_through_a_layout(ours, docker, tmp_path, name):
    place, moments = LayoutEntry(tmp_path / name), []
    report = copy(at(ours, "copy/from:v1"), place, progress=moments.append)
    assert (moments[-1].blobs, moments[-1].size) == (6, report.size)
    assert moments[-1].of_size == moments[-1].size
    layout = ImageLayout(place.path)
    assert layout.tagged("v1").digest == digest_bytes(MAIN)
    again = copy(at(ours, "copy/from:set"), place)
    assert (again.sent, again.manifests) == (0, 5)
    assert ImageLayout(place.path).tagged("set").digest == digest_bytes(INDEX)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    copy(LayoutEntry(place.path, "v1"), at(docker, f"copy/{name.replace('.', '-')}"))
    check(docker, f"copy/{name.replace('.', '-')}")
    copy(LayoutEntry(place.path, digest_bytes(INDEX)), at(docker, "copy/by-digest"), tag="set")
    assert docker.get_manifest("copy/by-digest", "set")[0] == INDEX
    with pytest.raises(InvalidInput, match="names 2 manifests"):
        copy(place, at(docker, "copy/which"))


def test_equal_copies_are_equal_tar_files(ours, tmp_path):
    for name in ("a.tar", "b.tar"):
        copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / name))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_copy_that_broke_off_goes_on(ours, tmp_path, monkeypatch):
    fetched, original = [], RegistryClient.pull_blob

    def breaking(self, repository, descriptor, destination, **more):
        if len(fetched) == 3:
            raise Retryable("gone")
        fetched.append(descriptor.digest)
        return original(self, repository, descriptor, destination, **more)

    monkeypatch.setattr(RegistryClient, "pull_blob", breaking)
    for place in (LayoutEntry(tmp_path / "x.tar"), LayoutEntry(tmp_path / "x")):
        fetched.clear()
        with pytest.raises(Retryable):
            copy(at(ours, "copy/from:v1"), place, concurrency=1)
        assert not (tmp_path / "x.tar").exists() or place.path.suffix != ".tar"
        kept = list(fetched)
        fetched[:] = ["more"] * 4
        report = copy(at(ours, "copy/from:v1"), place, concurrency=1)
        assert (report.present, report.sent) == (len(kept), 6 - len(kept))
        assert ImageLayout(place.path).tagged("v1").digest == digest_bytes(MAIN)


def test_several_artifacts_share_one_layout(ours, tmp_path):
    target = LayoutTarget(tmp_path / "many.tar")
    copy(at(ours, "copy/from:v1"), target, tag="one")
    copy(at(ours, "copy/from:set"), target, tag="two")
    target.finish()
    layout = ImageLayout(tmp_path / "many.tar")
    assert (layout.tagged("one").digest, layout.tagged("two").digest) == (digest_bytes(MAIN), digest_bytes(INDEX))


def test_what_is_wrong_is_refused(ours, tmp_path):
    with pytest.raises(NotFound):
        copy(at(ours, "copy/from:missing"), LayoutEntry(tmp_path / "x"))
    with pytest.raises(InvalidInput, match="names no version"):
        copy(at(ours, "copy/from"), LayoutEntry(tmp_path / "x"))
    with pytest.raises(InvalidInput, match="another digest"):
        copy(at(ours, "copy/from:v1"), at(ours, f"copy/x@{digest_bytes(b'x')}"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(InvalidInput, match="not an OCI image layout"):
        copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / "full"))
    with pytest.raises(InvalidInput, match="transfers at once"):
        copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / "y"), concurrency=99)
    copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / "z"))
    signature = tmp_path / "z/blobs/sha256" / digest_bytes(SIGNATURE)[7:]
    signature.write_bytes(signature.read_bytes().replace(b"signature", b"signatuer"))
    with pytest.raises(Permanent, match="damaged"):
        copy(LayoutEntry(tmp_path / "z", "v1"), at(ours, "copy/never"))
    layer = tmp_path / "z/blobs/sha256" / digest_bytes(LAYERS[0])[7:]
    shutil.copy(tmp_path / "z/blobs/sha256" / digest_bytes(LAYERS[1])[7:], layer)
    signature.unlink()
    with pytest.raises(InvalidInput, match="bytes instead of"):
        copy(LayoutEntry(tmp_path / "z", "v1"), at(ours, "copy/never"))


def test_an_index_that_contains_itself_or_never_ends_is_refused(evil, answer, tmp_path):
    """Digests forbid true cycles, so that a registry must send ever new ones; sizes and numbers are bounded."""
    def behave(handler):
        number = len(evil.requests)
        child = {"mediaType": media.INDEX, "digest": digest_bytes(str(number).encode()), "size": 1}
        body = canonical_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [child] * 3})
        answer(handler, 200, body, Content_Type=media.INDEX)

    evil.behave = behave
    with pytest.raises(Permanent, match="digest"):
        copy(parse(f"oci://{evil.host}/a/b:x"), LayoutEntry(tmp_path / "x"))


def test_skopeo_reads_the_layouts_and_writes_ones_that_are_read(ours, tmp_path):
    command = shutil.which("skopeo")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")

    def run(*arguments):
        subprocess.run([command, "copy", *arguments], check=True, capture_output=True, timeout=120)

    copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / "ours"), referrers=False)
    copy(at(ours, "copy/from:v1"), LayoutEntry(tmp_path / "ours.tar"), referrers=False)
    run("--dest-tls-verify=false", f"oci:{tmp_path}/ours:v1", f"docker://{ours.registry}/copy/skopeo-a:v1")
    run("--dest-tls-verify=false", f"oci-archive:{tmp_path}/ours.tar:v1", f"docker://{ours.registry}/copy/skopeo-b:v1")
    run("--src-tls-verify=false", f"docker://{ours.registry}/copy/from:v1", f"oci:{tmp_path}/theirs:v1")
    copy(LayoutEntry(tmp_path / "theirs"), at(ours, "copy/skopeo-c"))
    for name in "abc":
        assert ours.get_manifest(f"copy/skopeo-{name}", "v1")[0] == MAIN


def test_layers_that_nobody_may_pass_on_may_be_missing(ours, tmp_path):
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    layer = Descriptor(kind, digest_bytes(b"not here"), 8).to_json()
    data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": EMPTY, "layers": [layer]})
    ours.push_blob("copy/foreign", b"{}", media.EMPTY_DIGEST, media.EMPTY)
    ours.push_manifest("copy/foreign", "v1", data, media.MANIFEST)
    assert copy(at(ours, "copy/foreign:v1"), LayoutEntry(tmp_path / "x")).sent == 1


def test_a_layer_that_looks_like_a_manifest_stays_a_layer(ours, tmp_path):
    """oras-py 0.2.43 guesses from the contents, and pushes such a layer as a manifest."""
    layer = MAIN
    data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": EMPTY,
                           "layers": [Descriptor("application/json", digest_bytes(layer), len(layer)).to_json()]})
    for blob in (b"{}", layer):
        ours.push_blob("copy/confusing", blob, digest_bytes(blob), "x/y")
    ours.push_manifest("copy/confusing", "v1", data, media.MANIFEST)
    copy(at(ours, "copy/confusing:v1"), LayoutEntry(tmp_path / "x"))
    copy(LayoutEntry(tmp_path / "x"), at(ours, "copy/confusing-back"))
    assert ours.has_blob("copy/confusing-back", digest_bytes(layer))
    assert not ours.has_manifest("copy/confusing-back", digest_bytes(layer))


@pytest.mark.parametrize("link", ["blobs", "blobs/sha256"])
def test_links_in_a_layout_lead_nowhere(ours, tmp_path, link):
    """GHSA-8xwf-rjm4-xvhv: nothing is written or read through a link in a layout that somebody else made."""
    place, elsewhere = LayoutEntry(tmp_path / "x"), tmp_path / "elsewhere"
    copy(at(ours, "copy/from:v1"), place)
    (place.path / link).rename(elsewhere)
    (place.path / link).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises(Permanent, match="is a link"):
        copy(place, at(ours, "copy/never"))
    with pytest.raises(InvalidInput, match="is a link"):
        copy(at(ours, "copy/from:set"), place)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_blob_that_is_a_link_is_replaced_and_not_followed(ours, tmp_path):
    copy(at(ours, "copy/from:v1"), place := LayoutEntry(tmp_path / "x"))
    blob = place.path / "blobs/sha256" / digest_bytes(LAYERS[0])[7:]
    blob.rename(tmp_path / "kept")
    blob.symlink_to(tmp_path / "kept")
    with pytest.raises(NotFound, match="not a regular file"):
        copy(place, at(ours, "copy/never"))
    copy(at(ours, "copy/from:v1"), place)
    assert not blob.is_symlink()
    assert (tmp_path / "kept").read_bytes() == LAYERS[0]
