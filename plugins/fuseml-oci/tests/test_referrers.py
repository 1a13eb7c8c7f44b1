"""Referrers, tags and mounts on our registry (referrers API) and on docker-registry (fallback tag)."""

from __future__ import annotations

import json
import threading

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.referring import fallback_tag
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

EMPTY = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}


def manifest(kind, subject=None, **annotations):
    document = {"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": kind, "config": EMPTY,
                "layers": [EMPTY], "annotations": annotations}
    if subject is not None:
        document["subject"] = descriptor_of(subject, media.MANIFEST).to_json()
    return canonical_json(document)


@pytest.fixture(params=["ours", "docker-registry"])
def connected(request):
    host = request.getfixturevalue("registry").host if request.param == "ours" else \
        request.getfixturevalue("docker_registry")
    with RegistryClient(host) as client:
        client.push_blob("refs/a", b"{}", media.EMPTY_DIGEST, media.EMPTY)
        yield client


def test_r171_referrers_are_listed_with_type_and_annotations(connected):
    subject = manifest("a/subject", name="listed")
    digest = connected.push_manifest("refs/a", "listed", subject, media.MANIFEST)
    assert connected.referrers("refs/a", digest) == []
    one, two = manifest("a/one", subject, colour="blue"), manifest("a/two", subject)
    for data in (one, two, one):
        assert connected.push_referrer("refs/a", data) == digest_bytes(data)
    found = {d.digest: d for d in connected.referrers("refs/a", digest)}
    assert found.keys() == {digest_bytes(one), digest_bytes(two)}
    assert found[digest_bytes(one)].annotations == {"colour": "blue"}
    assert found[digest_bytes(one)].size == len(one)
    assert [d.digest for d in connected.referrers("refs/a", digest, "a/two")] == [digest_bytes(two)]
    assert connected.delete_referrer("refs/a", digest_bytes(one))
    assert not connected.delete_referrer("refs/a", digest_bytes(one))
    assert [d.digest for d in connected.referrers("refs/a", digest)] == [digest_bytes(two)]


def test_referrers_that_several_push_at_once_are_all_kept(connected):
    subject = manifest("a/subject", name="crowd")
    digest = connected.push_manifest("refs/a", "crowd", subject, media.MANIFEST)
    pushed = [manifest("a/one", subject, number=str(n)) for n in range(6)]
    threads = [threading.Thread(target=connected.push_referrer, args=("refs/a", data)) for data in pushed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {d.digest for d in connected.referrers("refs/a", digest)} == {digest_bytes(data) for data in pushed}


def test_a_manifest_without_subject_refers_to_nothing(connected):
    with pytest.raises(InvalidInput, match="no subject"):
        connected.push_referrer("refs/a", manifest("a/b"))


def test_tags_are_given_and_taken(connected):
    data = manifest("a/subject", name="tagged")
    digest = connected.push_manifest("refs/a", digest_bytes(data), data, media.MANIFEST)
    connected.tag("refs/a", digest, "latest")
    connected.tag("refs/a", digest, "other")
    assert connected.get_manifest("refs/a", "other")[0] == data
    with pytest.raises(NotFound):
        connected.tag("refs/a", digest_bytes(b"missing"), "x")
    try:
        assert connected.delete_tag("refs/a", "latest")
    except InvalidInput as error:  # docker-registry deletes by digest only
        assert error.details["status"] in (400, 405)
    else:
        assert "latest" not in connected.tags("refs/a")
    assert connected.has_manifest("refs/a", digest)


def test_blobs_are_mounted_from_another_repository(connected):
    data = b"mounted" * 1000
    connected.push_blob("refs/a", data, digest_bytes(data), "x/y")
    assert connected.mount_blob("refs/b", digest_bytes(data), "refs/a")
    assert connected.has_blob("refs/b", digest_bytes(data))
    assert not connected.mount_blob("refs/b", digest_bytes(b"nowhere"), "refs/a")


def test_fallback_tags_are_cut_as_the_specification_says():
    assert fallback_tag(f"sha512:{'a' * 128}") == f"sha512-{'a' * 64}"
    with pytest.raises(InvalidInput):
        fallback_tag("sha256:../x")


@pytest.mark.parametrize("body", [
    {"manifests": [5]}, {"manifests": {}}, {"manifests": [{"mediaType": "a", "digest": "sha256:../x", "size": 1}]}])
def test_damaged_lists_of_referrers_are_refused(evil, answer, body):
    evil.behave = lambda h: answer(h, 200, json.dumps(body).encode(), Content_Type=media.INDEX)
    with RegistryClient(evil.host) as client, pytest.raises(Permanent, match="manifests"):
        client.referrers("a/b", digest_bytes(b"x"))
