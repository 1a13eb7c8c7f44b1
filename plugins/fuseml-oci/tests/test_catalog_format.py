from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml_oci.catalog import format as form
from fuseml_oci.catalog.contents import Contents, assemble
from fuseml_oci.catalog.format import API_VERSION, Blob, Node, Package, Root, decode, encode
from fuseml_oci.catalog.search import SearchIndex, read_row, row_of
from fuseml_oci.catalog.tree import LEAF, blob_of, build_tree, find, path_of, walk
from fuseml_oci.signing.keys import generate
from fuseml_sdk.errors import InvalidInput

NOW = "2026-11-23T19:45:00Z"
names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5})?", fullmatch=True)
versions = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).map(lambda v: ".".join(map(str, v)))
lines = st.text(max_size=40)


def a_package(name="numbers", count=2, **more):
    entries = [{"version": f"1.{n}.0", "digest": f"sha256:{n:064x}", "published_at": NOW, "published_by": "Ana"}
               for n in range(count)]
    return Package.model_validate({
        "api_version": API_VERSION, "name": name, "namespace": "tools", "repository": f"oci://localhost:5000/x/{name}",
        "versions": entries, "channels": {"stable": [{"version": e["version"]} for e in entries]}, **more})


@st.composite
def packages(draw):
    listed = draw(st.lists(versions, unique=True, max_size=6))
    chosen = draw(st.lists(st.sampled_from(listed), unique=True)) if listed else []
    return Package.model_validate({
        "api_version": API_VERSION, "name": draw(names), "namespace": draw(names), "summary": draw(lines),
        "description": draw(lines), "keywords": draw(st.lists(lines, max_size=3)),
        "repository": "oci://host.example/a/b", "default_channel": draw(st.sampled_from(form.CHANNELS)),
        "channels": {draw(st.sampled_from(form.CHANNELS)): [{"version": v} for v in chosen]},
        "versions": [{"version": v, "digest": f"sha256:{'0' * 64}", "published_at": NOW, "published_by": "x",
                      "size": draw(st.integers(0, 10**12)),
                      "dependencies": [{"name": draw(names), "range": f">={v}"}]} for v in listed]})


@given(packages())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again_and_equal_documents_have_equal_bytes(package):
    data = encode(package)
    assert decode(Package, data, "it") == package
    assert encode(decode(Package, data, "it")) == data
    jsonschema.validate(json.loads(data), form.json_schema()["Package"])
    assert read_row(json.loads(json.dumps(row_of(package, "d").to_json()))) == row_of(package, "d")


def test_unknown_fields_of_a_later_version_are_passed_over():
    data = json.loads(encode(a_package())) | {"advisories": [1]}
    assert decode(Package, json.dumps(data).encode(), "it") == a_package()


@given(st.sets(names, max_size=200))
@settings(max_examples=40, deadline=None)
def test_the_tree_has_every_package_once_whatever_the_order(some):
    entries = {name: blob_of(name.encode()) for name in some}
    root, nodes = build_tree(entries)
    assert build_tree(dict(reversed(entries.items()))) == (root, nodes)

    def read(blob: Blob) -> Node:
        return decode(Node, nodes[blob.digest], "a node")

    assert dict(walk(root, read)) == entries
    assert all(find(root, name, read) == blob for name, blob in entries.items())
    assert find(root, "not-there", read) is None or "not-there" in some


def test_one_changed_package_changes_one_path_of_nodes():
    entries = {f"package-{n}": blob_of(str(n).encode()) for n in range(5000)}
    _, before = build_tree(entries)
    _, after = build_tree({**entries, "package-7": blob_of(b"other")})
    changed = [data for digest, data in after.items() if digest not in before]
    assert len(changed) == 3
    assert sum(map(len, changed)) < 8000


@pytest.mark.parametrize(("change", "reason"), [
    ({"name": "Numbers"}, "name"), ({"name": "nümbers"}, "name"), ({"name": "../x"}, "name"),
    ({"repository": "https://host/x"}, "repository"), ({"repository": "oci://host/x:tag"}, "repository"),
    ({"summary": "x" * 301}, "summary"), ({"summary": "\ud800"}, "summary"), ({"channels": {"beta": []}}, "channels"),
    ({"channels": {"stable": [{"version": "9.9.9"}]}}, "does not have"),
    ({"versions": [{"version": "1.0.0"}]}, "versions.0.digest"),
    ({"versions": [{"version": "v1", "digest": f"sha256:{'0' * 64}", "published_at": NOW, "published_by": "x"}]},
     "versions.0.version"),
    ({"versions": [{"version": "1.0.0", "digest": "sha256:../../etc", "published_at": NOW, "published_by": "x"}]},
     "versions.0.digest"),
    ({"versions": [{"version": "1.0.0", "digest": f"sha256:{'0' * 64}", "published_at": "2026-13-01T00:00:00Z",
                    "published_by": "x"}]}, "versions.0.published_at"),
    ({"versions": [{"version": "1.0.0", "digest": f"sha256:{'0' * 64}", "published_at": NOW, "published_by": "x",
                    "dependencies": [{"name": "a", "range": "newest"}]}]}, "versions.0.dependencies.0.range"),
    ({"api_version": "fuseml.io/catalog/v2"}, "api_version"),
])
def test_a_wrong_field_is_named(change, reason):
    data = json.loads(encode(a_package())) | change
    if "versions" in change:
        data["channels"] = {}
    with pytest.raises(InvalidInput, match=reason):
        decode(Package, json.dumps(data).encode(), "the package")


@pytest.mark.parametrize(("data", "reason"), [
    (b'{"name":"a","name":"b"}', "twice"), (b"[" * 100_000, "deep"), (b"{" + b" " * (1 << 20) + b"}", "at most"),
    (b"\xff", "not JSON"), (b"NaN", "not a number"), (b"[]", "document"), (b"{}", "Field required"),
    (b'{"version":1e999}', "required"), (b'{"count":' + b"9" * 5000 + b"}", "not JSON"),
])
def test_hostile_json_is_refused(data, reason):
    with pytest.raises(InvalidInput, match=reason):
        decode(Root, data, "the root")


def test_a_key_has_its_own_fingerprint_and_a_threshold_can_be_met():
    key, other = generate().public, generate().public
    good = {"fingerprint": key.fingerprint, "pem": key.pem.decode()}
    assert form.SignerKey.model_validate(good).fingerprint == form.fingerprint_of(key.pem.decode())
    for wrong in ({**good, "fingerprint": other.fingerprint}, {**good, "pem": "nothing"}, {**good, "pem": ""}):
        with pytest.raises(ValueError):
            form.SignerKey.model_validate(wrong)
    with pytest.raises(ValueError, match="2 signatures"):
        form.SignerRule.model_validate({"keys": [good, good], "threshold": 2})


def test_a_tree_that_hides_a_package_from_a_look_up_is_refused():
    wrong = encode(Node(packages={"numbers": blob_of(b"x")}))
    digit = "0" if path_of("numbers")[0] != "0" else "1"
    root = encode(Node(children={digit: blob_of(wrong)}))
    nodes = {blob_of(data).digest: data for data in (wrong, root)}
    with pytest.raises(InvalidInput, match="does not belong"):
        list(walk(blob_of(root), lambda blob: decode(Node, nodes[blob.digest], "a node")))
    with pytest.raises(InvalidInput, match="not both"):
        decode(Node, encode(Node.model_construct(children={"0": blob_of(b"")}, packages={"a": blob_of(b"")})), "a node")


def test_a_tree_that_never_ends_is_refused():
    blob = blob_of(b"x")
    with pytest.raises(InvalidInput, match="too deep"):
        list(walk(blob, lambda _: Node(children={"0": blob})))
    with pytest.raises(InvalidInput, match="too deep"):
        find(blob, "numbers", lambda _: Node(children=dict.fromkeys("0123456789abcdef", blob)))


def test_a_subscriber_of_a_channel_sees_the_steadier_ones_too():
    package = a_package(count=3, channels={"stable": [{"version": "1.0.0"}], "candidate": [{"version": "1.1.0"}],
                                           "edge": [{"version": "1.2.0"}]})
    assert [e.version for e in package.in_channel("stable")] == ["1.0.0"]
    assert [e.version for e in package.in_channel("edge")] == ["1.2.0", "1.1.0", "1.0.0"]


def test_equal_catalogs_have_equal_bytes_and_every_document_is_listed():
    contents = Contents({name: a_package(name) for name in ("a", "b")})
    first, second = (assemble(contents, name="shop", version=1, issued=NOW, expires=NOW) for _ in range(2))
    assert first.index == second.index
    listed = {layer["digest"] for data in first.manifests.values() for layer in json.loads(data)["layers"]
              if layer["mediaType"].endswith("document.v1+json")}
    assert listed == {digest for digest in first.blobs if json.loads(first.blobs[digest]).get("version") != 1}


def test_a_search_ranks_names_before_texts_and_counts_facets():
    index = SearchIndex(row_of(package) for package in (
        a_package("tracker", summary="keeps runs", keywords=["mlflow"]), a_package("mlflow", kinds=["store"]),
        a_package("mlflow-extras", kinds=["agent"]), a_package("other", description="works with MLflow", kinds=["agent"]),
        a_package("nothing")))
    hits = index.search("MLflow")
    assert [row.name for row in hits.rows] == ["mlflow", "mlflow-extras", "tracker", "other"]
    assert hits.facets["kind"] == {"agent": 2, "store": 1}
    assert [row.name for row in index.search("mlflow", kind="agent", limit=1).rows] == ["mlflow-extras"]
    assert index.search("", channel="candidate").total == 5
    assert index.search("no such thing").total == 0
    assert LEAF > 0
