"""Immutable tags: a published version keeps its content for ever, also after it was deleted."""

from __future__ import annotations

import uuid

import pytest

from fuseml_sdk.errors import InvalidInput


@pytest.fixture
def repository(server, pusher):
    return pusher(server.url, f"versions/{uuid.uuid4().hex}")


def put(repository, tag, content):
    """Status of pushing an image with this content under a tag."""
    config = repository.blob(b"{}")
    document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                "layers": [], "annotations": {"content": content}}
    return repository.http.put(f"{repository.url}/manifests/{tag}", json=document,
                               headers={"Content-Type": document["mediaType"]})


@pytest.mark.parametrize("by", ["tag", "manifest"])
def test_r9_a_deleted_version_comes_back_as_it_was_or_not_at_all(repository, by):
    first = put(repository, "1.2.3", "first")
    repository.delete("1.2.3" if by == "tag" else first.headers["Docker-Content-Digest"])
    assert repository.http.get(f"{repository.url}/manifests/1.2.3").status_code == 404
    refused = put(repository, "1.2.3", "second")
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["code"] == "DENIED"
    assert first.headers["Docker-Content-Digest"] in refused.text
    assert put(repository, "1.2.3", "first").status_code == 201
    assert put(repository, "1.2.3", "second").status_code == 409
    assert repository.http.get(f"{repository.url}/tags/list").json()["tags"] == ["1.2.3"]


def test_another_version_or_repository_has_nothing_to_do_with_it(repository, pusher, server):
    put(repository, "1.2.3", "first")
    repository.delete("1.2.3")
    assert put(repository, "1.2.4", "second").status_code == 201
    assert put(pusher(server.url, "versions/another"), "1.2.3", "second").status_code == 201


@pytest.mark.parametrize("tag", ["dev", "latest", "1", "1.2", "v1.2.3"])
def test_floating_tags_move_and_come_back_with_anything(repository, tag):
    for content in ("first", "second"):
        assert put(repository, tag, content).status_code == 201
    repository.delete(tag)
    assert put(repository, tag, "third").status_code == 201


@pytest.mark.parametrize(("rule", "tag", "status"), [
    ("none", "1.2.3", 201), ("semver", "1.2.3", 409), ("semver", "1.2.3-rc.1", 409), ("release-.*", "1.2.3", 201),
    ("release-.*", "release-a", 409),
])
def test_which_tags_never_change_is_configured(serve, tmp_path, pusher, rule, tag, status):
    with serve(tmp_path, immutable_tags=rule) as running:
        repository = pusher(running.url, "a")
        assert put(repository, tag, "first").status_code == 201
        assert put(repository, tag, "second").status_code == status
        repository.delete(tag)
        assert put(repository, tag, "second").status_code == status


def test_a_broken_pattern_is_refused(serve, tmp_path):
    with pytest.raises(InvalidInput, match="immutable_tags"):
        serve(tmp_path, immutable_tags="(")
