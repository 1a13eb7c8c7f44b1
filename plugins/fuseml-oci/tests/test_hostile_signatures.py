"""What an attacker who may push to a repository can lay beside a bundle: nothing of it counts, nothing of it raises."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout, write_layout
from fuseml_oci.reference import Reference
from fuseml_oci.signing import Fault, PrivateKey, attestations, candidates, generate, legacy, verify
from fuseml_oci.signing import bundle as bundles
from fuseml_oci.signing.payloads import PAYLOAD_TYPE, SIGNATURE, make_legacy_payload, make_statement, pae
from fuseml_oci.signing.verify import MAX_CANDIDATES, MAX_SIGNATURE
from fuseml_oci.sources import LayoutSource
from fuseml_oci.trust import Policy, Rule, decide

KEY, STRANGER = generate(), generate()
MANIFEST = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "layers": []})
SUBJECT = descriptor_of(MANIFEST, media.MANIFEST)
DIGEST = SUBJECT.digest
OTHER = digest_bytes(b"another manifest")
STATEMENT = make_statement(DIGEST, SIGNATURE, {})


class Shelf:
    """An image layout being filled with whatever a test puts beside the artifact."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blobs = {DIGEST: MANIFEST}
        self._entries = [SUBJECT]

    def referrer(self, content: bytes, media_type: str = bundles.MEDIA_TYPE, **more: object) -> None:
        """Attach a blob as a bundle would be."""
        layer = descriptor_of(content, media_type)
        document = {**json.loads(bundles.manifest(bundles.MEDIA_TYPE, layer, SUBJECT, {})), **more}
        self.add(content)
        self.manifest(json.dumps(document).encode())

    def older(self, *signatures: tuple[bytes, bytes]) -> None:
        """Pairs of payload and signature under the `.sig` tag."""
        layers = []
        for payload, signature in signatures:
            self.add(payload)
            layers.append(legacy.layer_of(descriptor_of(payload, legacy.SIMPLE_SIGNING, {
                legacy.SIGNATURE: base64.b64encode(signature).decode()})))
        self.manifest(legacy.manifest(layers, legacy.config(layers)), legacy.signature_tag(DIGEST))

    def manifest(self, data: bytes, tag: str = "") -> None:
        """Put any bytes there as a manifest."""
        self.add(data)
        self._entries.append(Descriptor(media.MANIFEST, digest_bytes(data), len(data), {media.REF_NAME: tag} if tag else {}))

    def add(self, data: bytes) -> None:
        """Put a blob there."""
        self._blobs[digest_bytes(data)] = data

    @property
    def source(self) -> LayoutSource:
        write_layout(self._path, self._entries, self._blobs)
        return LayoutSource(ImageLayout(self._path))

    def judge(self, *keys: PrivateKey) -> tuple[int, list[Fault]]:
        """(number of good signatures, faults)."""
        faults: list[Fault] = []
        return len(verify(self.source, DIGEST, [key.public for key in keys or (KEY,)], faults.append)), faults


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    return Shelf(tmp_path / "layout")


def envelope(payload: bytes, key: PrivateKey = KEY, /, **changes: object) -> bytes:
    """A bundle with parts of it replaced."""
    document = json.loads(bundles.make(payload, key))
    inside = document["dsseEnvelope"]
    for name, value in changes.items():
        (inside if name in inside else document)[name] = value
    return json.dumps(document).encode()


def test_the_shelf_itself_is_right(shelf):
    shelf.referrer(bundles.make(STATEMENT, KEY))
    payload = make_legacy_payload("x/y", DIGEST)
    shelf.older((payload, KEY.sign(payload)))
    assert shelf.judge() == (2, [])


def test_a_signature_for_another_digest_does_not_count(shelf):
    shelf.referrer(bundles.make(make_statement(OTHER, SIGNATURE, {}), KEY))
    payload = make_legacy_payload("x/y", OTHER)
    shelf.older((payload, KEY.sign(payload)))
    count, faults = shelf.judge()
    assert count == 0
    assert [(f.layout, f.reason, f.is_signature) for f in faults] == [
        ("bundle", "it is for another digest", True), ("legacy", "it is for another digest", True)]


def test_another_key_with_the_same_hint_does_not_count(shelf):
    shelf.referrer(envelope(STATEMENT, STRANGER, verificationMaterial={"publicKey": {"hint": KEY.public.hint}}))
    count, (fault,) = shelf.judge()
    assert count == 0
    assert "not by any of the wanted keys" in fault.reason


def test_a_good_signature_with_a_wrong_hint_counts(shelf):
    shelf.referrer(envelope(STATEMENT, KEY, verificationMaterial={"publicKey": {"hint": STRANGER.public.hint}}))
    assert shelf.judge() == (1, [])


def test_the_type_of_the_payload_is_part_of_what_is_signed(shelf):
    """A key that signs other things with DSSE must not be tricked into signing bundles."""
    def signed_as(kind: str) -> dict[str, str]:
        return {"sig": base64.b64encode(KEY.sign(pae(kind, STATEMENT))).decode()}

    shelf.referrer(envelope(STATEMENT, signatures=[signed_as("application/json")]))
    shelf.referrer(envelope(STATEMENT, payloadType="application/json", signatures=[signed_as("application/json")]))
    shelf.referrer(envelope(STATEMENT, signatures=[{"sig": base64.b64encode(KEY.sign(STATEMENT)).decode()}]))
    shelf.referrer(envelope(STATEMENT, payloadType=PAYLOAD_TYPE.upper()))
    count, faults = shelf.judge()
    assert count == 0
    assert len(faults) == 4


def test_an_attestation_is_no_signature_and_a_signature_no_attestation(shelf):
    shelf.referrer(bundles.make(make_statement(DIGEST, "https://slsa.dev/provenance/v1", {}), KEY))
    assert shelf.judge() == (0, [])
    assert len(attestations(shelf.source, DIGEST, [KEY.public])) == 1
    shelf.referrer(bundles.make(STATEMENT, KEY))
    assert len(attestations(shelf.source, DIGEST, [KEY.public], [SIGNATURE])) == 0


def test_an_older_attestation_counts_by_the_same_rules(shelf):
    def older(statement: bytes, key: PrivateKey = KEY) -> bytes:
        return json.dumps(json.loads(envelope(statement, key))["dsseEnvelope"]).encode()

    kind = "https://slsa.dev/provenance/v1"
    contents = [older(make_statement(DIGEST, kind, {"good": True})), older(make_statement(OTHER, kind, {})),
                older(make_statement(DIGEST, kind, {}), STRANGER), older(STATEMENT), b"{}", b"["]
    layers = []
    for content in contents:
        shelf.add(content)
        layers.append(legacy.layer_of(descriptor_of(content, legacy.ENVELOPE)))
    shelf.manifest(legacy.manifest(layers, legacy.config(layers)), legacy.attestation_tag(DIGEST))
    faults = []
    (found,) = attestations(shelf.source, DIGEST, [KEY.public], report=faults.append)
    assert found.predicate == {"good": True}
    assert sorted(fault.is_signature for fault in faults) == [False, False, True, True]
    assert shelf.judge() == (0, [])


@pytest.mark.parametrize("subject", [
    b'"subject":[{"digest":{"sha256":"%s"}}],"subject":[{"digest":{"sha256":"%s"}}]',
    b'"subject":[{"digest":{"sha256":"%s"}}],"Subject":[{"digest":{"sha256":"%s"}}]',
    b'"subject":[{"digest":{"sha256":"%s","SHA256":"%s"}}]'], ids=["twice", "case", "digest"])
def test_a_statement_with_two_readings_does_not_count(shelf, subject):
    statement = STATEMENT[:STATEMENT.index(b'"subject"')] + subject + STATEMENT[STATEMENT.index(b',"predicateType"'):]
    values = (OTHER.partition(":")[2].encode(), DIGEST.partition(":")[2].encode())
    shelf.referrer(bundles.make(statement % values, KEY))
    shelf.referrer(bundles.make(statement % values[::-1], KEY))
    count, faults = shelf.judge()
    assert count == 0
    assert ["is there twice" in fault.reason for fault in faults] == [True, True]


def test_an_older_payload_with_upper_case_keys_does_not_count(shelf):
    """Go reads keys in any case, and takes the last; the text of cosign's own specification has the key wrong."""
    good = make_legacy_payload("x/y", DIGEST)
    wrong = make_legacy_payload("x/y", OTHER)
    upper = good.replace(b"docker-manifest-digest", b"Docker-manifest-digest")
    both = wrong.replace(b'"image":{', b'"image":{"Docker-Manifest-Digest":"' + DIGEST.encode() + b'",')
    critical = good.replace(b'"critical"', b'"Critical"')
    kind = good.replace(b"cosign container image signature", b"atomic container signature")
    shelf.older(*((payload, KEY.sign(payload)) for payload in (upper, both, critical, kind)))
    count, faults = shelf.judge()
    assert count == 0
    assert len(faults) == 4


def test_sizes_are_bounded(shelf):
    big = make_statement(DIGEST, SIGNATURE, {"padding": "x" * MAX_SIGNATURE})
    shelf.referrer(bundles.make(big, KEY))
    payload = make_legacy_payload("x" * MAX_SIGNATURE, DIGEST)
    shelf.older((payload, KEY.sign(payload)))
    shelf.referrer(bundles.make(make_statement(DIGEST, "https://a.b/c", {"padding": "x" * (5 << 20)}), KEY))
    count, faults = shelf.judge()
    assert count == 0
    assert all("more than" in fault.reason for fault in faults)
    assert len(faults) == 3
    assert attestations(shelf.source, DIGEST, [KEY.public]) == []


def test_thousands_of_signatures_cost_a_bounded_effort(shelf):
    payload = make_legacy_payload("x/y", DIGEST)
    shelf.older(*[(payload, STRANGER.sign(payload))] * 1000)
    for number in range(MAX_CANDIDATES + 50):
        shelf.referrer(b"%d" % number)
    source, asked, wanted = shelf.source, [], []
    original = source.blob
    source.blob = lambda descriptor: asked.append(descriptor) or original(descriptor)
    source.referrers(DIGEST)
    asked.clear()
    assert verify(source, DIGEST, [KEY.public], wanted.append) == []
    assert len(asked) <= 3 * MAX_CANDIDATES + 1
    assert [f.reason for f in wanted if "only" in f.reason] == [
        f"only {MAX_CANDIDATES} of {MAX_CANDIDATES + 50} candidates were looked at",
        f"only {MAX_CANDIDATES} of 1000 signatures were looked at"]


def test_a_registry_that_is_slow_on_purpose_ends_somewhere(shelf, monkeypatch):
    for _ in range(3):
        shelf.referrer(bundles.make(STATEMENT, KEY))
    payload = make_legacy_payload("x/y", DIGEST)
    shelf.older((payload, KEY.sign(payload)))
    monkeypatch.setattr(candidates, "MAX_SECONDS", 0.0)
    count, faults = shelf.judge()
    assert count == 0
    assert [(fault.layout, "was not looked at" in fault.reason) for fault in faults] == [("bundle", True), ("legacy", True)]


def test_more_layers_than_cosign_reads_are_refused_at_once(shelf):
    payload = make_legacy_payload("x/y", DIGEST)
    shelf.older(*[(payload, KEY.sign(payload))] * 1001)
    count, (fault,) = shelf.judge()
    assert count == 0
    assert "more than 1000" in fault.reason


GARBAGE = [b"", b"{", b"[]", b"null", b'"text"', b"{}", b"\xff\xfe", b"[" * 100_000, b'{"layers":"x"}',
           b'{"layers":[{}]}', b'{"layers":[{"mediaType":1,"digest":2,"size":3}]}']


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_beside_a_good_signature_changes_nothing(shelf, content):
    shelf.referrer(content or b" ")
    shelf.referrer(bundles.make(STATEMENT, KEY), subject={"digest": "sha256:zz"})
    shelf.referrer(bundles.make(STATEMENT, KEY), layers=[])
    shelf.referrer(bundles.make(STATEMENT, STRANGER), "application/json")
    if content:
        shelf.manifest(content)
        shelf.manifest(content, legacy.signature_tag(DIGEST))
    shelf.referrer(bundles.make(STATEMENT, KEY))
    count, faults = shelf.judge()
    assert count == 1
    assert faults
    assert not any(fault.is_signature for fault in faults)


@pytest.mark.parametrize("changes", [
    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.2+json"}, {"mediaType": "application/json"},
    {"signatures": []}, {"signatures": "x"}, {"signatures": [{"sig": "!"}]}, {"signatures": [{"sig": ""}]},
    {"signatures": [{"sig": "AA=="}, {"sig": "AA=="}]}, {"payload": "!"}, {"payload": ""}, {"payload": 7},
    {"dsseEnvelope": None, "messageSignature": {}}], ids=str)
def test_malformed_bundles_do_not_count(shelf, changes):
    shelf.referrer(envelope(STATEMENT, **changes))
    count, faults = shelf.judge()
    assert count == 0
    assert len(faults) == 1


def test_keyless_signatures_are_named_as_what_they_are(shelf):
    shelf.referrer(envelope(STATEMENT, STRANGER, verificationMaterial={"certificate": {"rawBytes": "AA=="}}))
    _, (fault,) = shelf.judge()
    assert "keyless" in fault.reason


def test_a_threshold_counts_keys_and_not_signatures(shelf, tmp_path):
    shelf.referrer(bundles.make(STATEMENT, KEY))
    shelf.referrer(bundles.make(STATEMENT, KEY))
    payload = make_legacy_payload("x/y", DIGEST)
    shelf.older((payload, KEY.sign(payload)), (payload, KEY.sign(payload)))
    files = []
    for name, key in (("a", KEY), ("b", STRANGER), ("copy-of-a", KEY)):
        files.append(tmp_path / f"{name}.pub")
        files[-1].write_bytes(key.public.pem)
    for chosen in (files, [files[0], files[2]]):
        policy = Policy((Rule("**", "keys", tuple(chosen), threshold=2),), tmp_path / "policy.toml")
        made = decide(policy, Reference("host.example", "a/b"), DIGEST, shelf.source, embedded="")
        assert not made.allowed
        assert not made.overridable
        assert made.signers == (KEY.fingerprint,)
        assert "2 different keys" in made.reason
    shelf.referrer(bundles.make(STATEMENT, STRANGER))
    policy = Policy((Rule("**", "keys", tuple(files), threshold=2),), tmp_path / "policy.toml")
    made = decide(policy, Reference("host.example", "a/b"), DIGEST, shelf.source, embedded="")
    assert made.allowed
    assert set(made.signers) == {KEY.fingerprint, STRANGER.fingerprint}
