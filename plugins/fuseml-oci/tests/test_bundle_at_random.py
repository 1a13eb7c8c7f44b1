"""Whatever a manifest, config, wheel or icon says: it is understood, or refused by an error that people can read."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml_oci import media
from fuseml_oci.bundles import build
from fuseml_oci.bundles.icons import check_icon
from fuseml_oci.bundles.lint.subject import read_wheel
from fuseml_oci.bundles.manifest import read_config, read_manifest
from fuseml_oci.bundles.unpack import _expected
from fuseml_oci.bundles.wheels import check_names
from fuseml_sdk.errors import InvalidInput

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source = tmp_path_factory.mktemp("random") / "source"
    (source / "runnables").mkdir(parents=True)
    (source / "extension.toml").write_text('name = "greeter"\nversion = "0.1.0"\nsummary = "Says hello."\n')
    (source / "runnables/hello.json").write_text('{"name": "hello", "command": ["{python}"]}')
    (source / "README.md").write_text("# Greeter\n")
    return build(source)


def understand(manifest: bytes, config: bytes) -> None:
    """Read both as if they came from a registry."""
    try:
        descriptor = read_config(read_manifest(manifest, media.MANIFEST, "oci://x/y"), config)
        _expected(descriptor.files, descriptor.name)
    except InvalidInput as error:
        assert error.message
        assert len(error.message) < 3000


def places(value: object, at: tuple = ()) -> list[tuple]:
    """Every place in a JSON document."""
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_value_in_any_place(built, data):
    documents = [json.loads(built.manifest), json.loads(built.descriptor.encode())]
    document = documents[data.draw(st.integers(0, 1))]
    *path, last = data.draw(st.sampled_from([place for place in places(document) if place]))
    target = document
    for key in path:
        target = target[key]
    target[last] = data.draw(JSON)
    understand(json.dumps(documents[0]).encode(), json.dumps(documents[1]).encode())


@settings(max_examples=200, deadline=None)
@given(CHANGES, CHANGES)
def test_any_damaged_bytes(built, one, two):
    documents = [bytearray(built.manifest), bytearray(built.descriptor.encode())]
    for document, changes in zip(documents, (one, two), strict=True):
        for position, value in changes:
            document[position % len(document)] = value
    understand(bytes(documents[0]), built.descriptor.encode())
    understand(built.manifest, bytes(documents[1]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="ab./\\:\0\nü", min_size=1, max_size=12), max_size=5), CHANGES, st.booleans())
def test_any_wheel(names, changes, damaged):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in dict.fromkeys(names):
            archive.writestr(zipfile.ZipInfo(name), b"x")
    data = bytearray(buffer.getvalue())
    for position, value in changes if damaged else ():
        data[position % len(data)] = value
    try:
        check_names("x-1.0-py3-none-any.whl", bytes(data))
        facts = read_wheel("x-1.0-py3-none-any.whl", bytes(data), texts=True)
    except InvalidInput:
        return
    for name in facts.names:
        assert not name.startswith("/")
        assert ".." not in name.split("/")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["<svg>", "</svg>", "<script>", "</script>", "<g onclick='x'>", "</g>", "<!DOCTYPE a>", "&a;",
                                 "<a href='https://e.org'/>", "x", "<?xml version='1.0' encoding='utf-7'?>", "<!--", "-->"]),
                max_size=8).map("".join) | st.text(max_size=60))
def test_any_icon(text):
    try:
        check_icon(text.encode(errors="replace"), "icon.svg")
    except InvalidInput:
        return
    assert "script" not in text
    assert "onclick" not in text or "<!--" in text
    assert "https" not in text or "<!--" in text
