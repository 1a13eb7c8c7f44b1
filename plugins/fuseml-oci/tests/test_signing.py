"""Signatures in both layouts of cosign, on a real registry and in image layouts."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, canonical_json, read_descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout, write_layout
from fuseml_oci.reference import Reference
from fuseml_oci.referring import described
from fuseml_oci.signing import LAYOUTS, attach, attest, attestations, generate, sign, verify
from fuseml_oci.signing.payloads import (
    go_json,
    make_legacy_payload,
    make_statement,
    pae,
    read_legacy_payload,
    read_statement,
)
from fuseml_oci.sources import LayoutSource, RepositorySource
from fuseml_sdk.errors import InvalidInput, NotFound

KEY, OTHER = generate(), generate()
SLSA = "https://slsa.dev/provenance/v1"


def artifact(client: RegistryClient, repository: str, text: str = "", algorithm: str = "sha256") -> Reference:
    """Push a small artifact of its own and return where it is."""
    client.push_blob(repository, b"{}", media.EMPTY_DIGEST, media.EMPTY)
    empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
    data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "config": empty,
                           "layers": [empty], "annotations": {"text": text}})
    digest = digest_bytes(data, algorithm)
    client.push_manifest(repository, digest, data, media.MANIFEST)
    return Reference(client.registry, repository, digest=digest)


@pytest.fixture
def place(client, request) -> Reference:
    return artifact(client, "signed/thing", request.node.name)


@pytest.fixture
def source(client) -> RepositorySource:
    return RepositorySource(client, "signed/thing")


@given(st.text(max_size=60), st.binary(max_size=200), st.text(max_size=60), st.binary(max_size=200))
def test_the_encoding_that_is_signed_has_one_reading(kind, payload, other_kind, other_payload):
    encoded = pae(kind, payload)
    assert (encoded == pae(other_kind, other_payload)) == ((kind, payload) == (other_kind, other_payload))
    header, length, rest = encoded.split(b" ", 2)
    assert header == b"DSSEv1"
    assert rest[:int(length)] == kind.encode()
    length, rest = rest[int(length) + 1:].split(b" ", 1)
    assert rest == payload
    assert int(length) == len(payload)


def test_the_encoding_is_that_of_the_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == \
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(st.dictionaries(st.text(max_size=10).filter(lambda k: k == k.casefold()), st.text(max_size=20), max_size=4))
def test_statements_come_back(predicate):
    digest = digest_bytes(b"x")
    statement = read_statement(make_statement(digest, SLSA, predicate))
    assert statement.digests == {digest}
    assert (statement.predicate_type, dict(statement.predicate)) == (SLSA, predicate)


def test_payloads_are_those_of_cosign_byte_for_byte():
    digest = "sha256:" + "0a" * 32
    assert make_legacy_payload("host:5000/a/b", digest) == (
        b'{"critical":{"identity":{"docker-reference":"host:5000/a/b"},"image":{"docker-manifest-digest":"' +
        digest.encode() + b'"},"type":"cosign container image signature"},"optional":null}')
    assert read_legacy_payload(make_legacy_payload("x", digest)) == digest
    assert go_json({"a": "<&>\u2028é"}) == b'{"a":"\\u003c\\u0026\\u003e\\u2028\xc3\xa9"}'


def test_signed_in_both_layouts_and_once_only(client, place, source):
    made = sign(client, place, KEY)
    assert [(s.layout, s.key) for s in made] == [(layout, KEY.fingerprint) for layout in LAYOUTS]
    assert sign(client, place, KEY) == made
    assert verify(source, place.digest, [KEY.public]) == made
    assert verify(source, place.digest, [KEY.public], enough=1) == made[:1]
    assert verify(source, place.digest, []) == []
    faults = []
    assert verify(source, place.digest, [OTHER.public], faults.append) == []
    assert [(f.layout, f.is_signature) for f in faults] == [("bundle", True), ("legacy", True)]
    sign(client, place, OTHER, ["legacy"])
    assert {(s.layout, s.key) for s in verify(source, place.digest, [KEY.public, OTHER.public])} == {
        ("bundle", KEY.fingerprint), ("legacy", KEY.fingerprint), ("legacy", OTHER.fingerprint)}


def test_a_signature_is_about_one_digest(client, place, source):
    other = artifact(client, "signed/thing", "another")
    sign(client, place, KEY)
    assert verify(source, other.digest, [KEY.public]) == []
    with pytest.raises(InvalidInput, match="no digest"):
        sign(client, place.with_tag("1.0.0"), KEY)
    with pytest.raises(NotFound):
        sign(client, place.with_digest(digest_bytes(b"missing")), KEY)
    with pytest.raises(InvalidInput, match="layouts"):
        sign(client, place, KEY, ["notation"])


def test_sha512_has_the_newer_layout_only(client, source):
    place = artifact(client, "signed/thing", "512", "sha512")
    assert [s.layout for s in sign(client, place, KEY)] == ["bundle"]
    assert [s.layout for s in verify(source, place.digest, [KEY.public])] == ["bundle"]
    with pytest.raises(InvalidInput, match="older layout"):
        sign(client, place, KEY, ["legacy"])


def test_many_sign_at_the_same_time_and_none_is_lost(client, place, source):
    keys = [generate() for _ in range(6)]
    threads = [threading.Thread(target=sign, args=(client, place, key)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = verify(source, place.digest, [key.public for key in keys])
    assert {(s.layout, s.key) for s in found} == {(layout, key.fingerprint) for layout in LAYOUTS for key in keys}


def test_attestations_count_when_signed_by_the_key(client, place, source):
    digest = attest(client, place, SLSA, {"buildDefinition": {"buildType": "x"}}, KEY)
    assert attest(client, place, SLSA, {"buildDefinition": {"buildType": "x"}}, KEY) == digest
    attest(client, place, "https://cyclonedx.org/bom", {"bomFormat": "CycloneDX"})  # unsigned
    (found,) = attestations(source, place.digest, [KEY.public])
    assert (found.predicate_type, found.key, found.digest) == (SLSA, KEY.fingerprint, digest)
    assert found.predicate == {"buildDefinition": {"buildType": "x"}}
    assert attestations(source, place.digest, [KEY.public], ["https://cyclonedx.org/bom"]) == []
    assert attestations(source, place.digest, [OTHER.public]) == []
    assert verify(source, place.digest, [KEY.public]) == []  # to say something about a bundle is not to sign it
    sign(client, place, KEY)
    assert [a.predicate_type for a in attestations(source, place.digest, [KEY.public])] == [SLSA]


def test_any_file_is_attached_once(client, place, source):
    digest = attach(client, place, "application/vnd.example.report", b"all is well")
    assert attach(client, place, "application/vnd.example.report", b"all is well") == digest
    (entry,) = source.referrers(place.digest)
    assert (entry.digest, entry.artifact_type) == (digest, "application/vnd.example.report")
    layer = json.loads(source.manifest(digest))["layers"][0]
    assert source.blob(read_descriptor(layer, "layer")) == b"all is well"


def test_openssl_verifies_both_layouts(client, place, source, tmp_path):
    sign(client, place, KEY)
    (tmp_path / "k.pub").write_bytes(KEY.public.pem)
    (entry,) = source.referrers(place.digest)
    document = json.loads(blob_of(source, source.manifest(entry.digest)))
    envelope = document["dsseEnvelope"]
    assert document["verificationMaterial"] == {"publicKey": {"hint": KEY.public.hint}}
    payload = base64.b64decode(envelope["payload"])
    by_openssl(tmp_path, pae(envelope["payloadType"], payload), envelope["signatures"][0]["sig"])
    older = source.tagged(place.digest.replace(":", "-") + ".sig")
    layer = json.loads(older)["layers"][0]
    by_openssl(tmp_path, blob_of(source, older), layer["annotations"]["dev.cosignproject.cosign/signature"])
    with pytest.raises(subprocess.CalledProcessError):
        by_openssl(tmp_path, blob_of(source, older) + b" ", layer["annotations"]["dev.cosignproject.cosign/signature"])


def blob_of(source: RepositorySource, manifest: bytes) -> bytes:
    return source.blob(read_descriptor(json.loads(manifest)["layers"][0], "layer"))


def by_openssl(folder: Path, payload: bytes, signature: str) -> None:
    (folder / "payload").write_bytes(payload)
    (folder / "sig").write_bytes(base64.b64decode(signature))
    subprocess.run(["openssl", "dgst", "-sha256", "-verify", "k.pub", "-signature", "sig", "payload"], cwd=folder,
                   check=True, capture_output=True, timeout=20)


@pytest.fixture(params=["folder", "tar", "fallback-tag"])
def layout(request, client, place, source, tmp_path) -> LayoutSource:
    """The signed artifact and all that refers to it, carried out of the registry as a layout."""
    sign(client, place, KEY)
    attest(client, place, SLSA, {}, KEY)
    older = place.digest.replace(":", "-") + ".sig"
    manifests = {digest: source.manifest(digest) for digest in
                 [place.digest, *(entry.digest for entry in source.referrers(place.digest))]}
    manifests[digest_bytes(source.tagged(older))] = source.tagged(older)
    blobs, entries = dict(manifests), []
    for digest, data in manifests.items():
        for described_ in (json.loads(data)["config"], *json.loads(data)["layers"]):
            entry = read_descriptor(described_, "blob")
            blobs[entry.digest] = source.blob(entry)
        name = {media.REF_NAME: "1.0.0"} if digest == place.digest else \
            {media.REF_NAME: older} if data == source.tagged(older) else {}
        entries.append(Descriptor(media.MANIFEST, digest, len(data), name))
    if request.param == "fallback-tag":
        referring = [described(manifests[entry.digest], media.MANIFEST) for entry in source.referrers(place.digest)]
        index = canonical_json({"schemaVersion": 2, "mediaType": media.INDEX,
                                "manifests": [entry.to_json() for entry in referring]})
        blobs[digest_bytes(index)] = index
        entries = [entry for entry in entries if entry.annotations]
        entries.append(Descriptor(media.INDEX, digest_bytes(index), len(index),
                                  {media.REF_NAME: place.digest.replace(":", "-")}))
    path = tmp_path / ("layout.tar" if request.param == "tar" else "layout")
    write_layout(path, entries, blobs)
    return LayoutSource(ImageLayout(path))


def test_signatures_travel_in_layouts(layout, place):
    assert [s.layout for s in verify(layout, place.digest, [KEY.public])] == ["bundle", "legacy"]
    assert [a.predicate_type for a in attestations(layout, place.digest, [KEY.public])] == [SLSA]
    assert verify(layout, place.digest, [OTHER.public]) == []
    assert layout.only_subject() == place.digest
    assert layout.tagged("2.0.0") is None
    with pytest.raises(NotFound):
        layout.manifest(digest_bytes(b"missing"))
