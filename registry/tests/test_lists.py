"""distribution-spec 1.1, "Listing Tags" (end-8), version check (end-1) and the catalog."""

from __future__ import annotations

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import canonical_json

TAGS = ["0.1.0", "10", "9", "A", "_x", "a", "latest"]


@pytest.fixture(scope="module")
def name(server):
    from fuseml_oci.client import RegistryClient

    with RegistryClient(server.host) as client:
        for repository in ("lists/one", "lists/one/nested", "lists-two"):
            client.push_blob(repository, b"{}", media.EMPTY_DIGEST, media.EMPTY)
            empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
            data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": empty, "layers": []})
            for tag in reversed(TAGS):
                client.push_manifest(repository, tag, data, media.MANIFEST)
    return "lists/one"


def test_version_check(server, http):
    for path in ("/v2/", "/v2"):
        answer = http.get(f"http://{server.host}{path}")
        assert answer.status_code == 200
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_an_unknown_path_is_named_in_the_answer(server, http):
    """Error Codes: the message is for people, the code for programs."""
    answer = http.get(f"{server.url}/some/where")
    assert answer.status_code == 404
    assert answer.json()["errors"] == [{
        "code": "NAME_UNKNOWN", "message": "'/v2/some/where' is not a path of the distribution protocol"}]


def test_tags_in_ascii_order(server, http, name):
    assert http.get(f"{server.url}/{name}/tags/list").json() == {"name": name, "tags": TAGS}


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 100])
def test_pages_follow_each_other_by_link(server, http, name, size):
    url, seen, pages = f"/v2/{name}/tags/list?n={size}", [], 0
    while url:
        answer = http.get(f"http://{server.host}{url}")
        seen, pages = seen + answer.json()["tags"], pages + 1
        url = answer.links.get("next", {}).get("url")
    assert seen == TAGS
    assert pages == -(-len(TAGS) // size)


def test_n_zero_is_an_empty_list_and_last_need_not_exist(server, http, name):
    assert http.get(f"{server.url}/{name}/tags/list?n=0").json()["tags"] == []
    assert http.get(f"{server.url}/{name}/tags/list?last=9zzz&n=2").json()["tags"] == ["A", "_x"]


@pytest.mark.parametrize("size", ["-1", "x", "", "²", "9999999999"])
def test_nonsense_for_n_is_400(server, http, name, size):
    assert http.get(f"{server.url}/{name}/tags/list", params={"n": size}).status_code == 400


def test_unknown_repository_is_404(server, http):
    answer = http.get(f"{server.url}/no/such/tags/list")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"


def test_catalog_with_pages(server, http, name):
    assert http.get(f"{server.url}/_catalog").json()["repositories"] == ["lists-two", "lists/one", "lists/one/nested"]
    first = http.get(f"{server.url}/_catalog?n=2")
    assert first.json()["repositories"] == ["lists-two", "lists/one"]
    rest = http.get(f"http://{server.host}{first.links['next']['url']}")
    assert rest.json()["repositories"] == ["lists/one/nested"]
