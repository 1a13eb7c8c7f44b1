"""Archives across an air gap: made from one registry, taken into another, refused when anything is wrong (R169)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from fuseml_core.adapters.extensions.airgap import LayoutExports, LayoutImports, Relocations
from fuseml_core.adapters.extensions.airgap.judging import Judge
from fuseml_core.adapters.extensions.airgap.wheels import WheelCollector, WheelFolder
from fuseml_core.domain.errors import Conflict, FusemlError, Invalid, NotFound, Refused
from fuseml_core.service.extensions.care_ports import Admission, ExportItem, Target
from fuseml_core.service.extensions.ports import FoundBundle
from fuseml_oci import media
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import copy
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing import attest, generate, sign
from fuseml_oci.sources import RepositorySource
from fuseml_oci.trust import EndorsedKeys
from fuseml_registry.app import standalone_app

SOURCE = Path(__file__).parents[1] / "e2e/bundles/numbers"
EXPORTER = "oci://exporter.example/extensions/numbers"


def _no_wheels():
    return WheelCollector(lambda *_a: [])


@contextlib.contextmanager
def serving(root: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(standalone_app({"root": str(root)}), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(20)


@contextlib.contextmanager
def docker_registry(folder: Path):
    """Debian's docker-registry: no referrers API, so that clients keep lists of referrers under tags."""
    command = shutil.which("docker-registry")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("docker-registry is not installed: apt-get install it")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        place = f"127.0.0.1:{chosen.getsockname()[1]}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": {"addr": place},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}}))
    process = subprocess.Popen([command, "serve", str(folder / "config.json")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(place.split(":")[1])), 1):
                break
            time.sleep(0.05)
        yield place
    finally:
        process.terminate()
        process.wait(10)


class Exporter:
    """A machine with a registry that holds the signed bundle `numbers`."""

    def __init__(self, home: Path, registry: str, key) -> None:
        self.home, self.registry = home, registry
        built = build(SOURCE)
        place = read_reference("numbers", registry)
        with RegistryClient.for_reference(place) as client:
            pushed = push(built, place, client)
            sign(client, pushed, key)
            attest(client, pushed, "https://example.org/tested/v1", {"passed": True}, key)
        self.found = FoundBundle(str(pushed), pushed.digest, built.descriptor.model_dump(mode="json", by_alias=True))
        self.exports = LayoutExports(
            home / "transfers", home / "content", RegistryClient.for_reference,
            lambda r: Reference("exporter.example", r.repository, r.tag, r.digest), _no_wheels)

    def export(self, target: Path) -> bytes:
        made = self.exports.make([ExportItem(self.found, True)], "version = 1\n", Target(), lambda _t: None)
        size, stream = self.exports.open(made.id)
        data = b"".join(stream)
        assert len(data) == size == made.size
        target.write_bytes(data)
        return data


class Importer:
    """A machine without any index, with an empty registry and the policy of a new server."""

    def __init__(self, home: Path, registry: str, policy: str = '[[rule]]\nmatch = "**"\nkeys = "marketplace"\n') -> None:
        home.mkdir(exist_ok=True)
        self.home, self.registry = home, registry
        self.policy = home / "policy.toml"
        self.write_policy(policy)
        self.relocations = Relocations(home / "extensions/relocations.json")
        self.imports = LayoutImports(home / "imports", lambda: RegistryClient(registry, insecure=True), Judge(self.policy),
                                     self.relocations, WheelFolder(home / "wheels"))

    def write_policy(self, rules: str) -> None:
        self.policy.write_text("version = 1\n" + rules)

    def take(self, data: bytes, *keys: str, **terms):
        digest = hashlib.sha256(data).hexdigest()
        there = self.imports.received(digest)
        self.imports.receive(digest, there, data[there:])
        self.progress = []
        try:
            return self.imports.admit(digest, Admission(tuple(keys), **terms), self.progress.append)
        finally:
            self.imports.discard(digest)

    def is_untouched(self) -> bool:
        with RegistryClient(self.registry, insecure=True) as client:
            left = list(self.imports._folder.iterdir()) if self.imports._folder.exists() else []
            return not client.repositories() and not self.relocations.all() and not left


@pytest.fixture(scope="module")
def keys():
    return generate(), generate()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory, keys):
    home = tmp_path_factory.mktemp("exporter")
    with serving(home / "registry") as registry:
        yield Exporter(home, registry, keys[0])


@pytest.fixture(scope="module")
def data(exporter, tmp_path_factory):
    return exporter.export(tmp_path_factory.mktemp("archive") / "numbers.tar")


@pytest.fixture
def importer(tmp_path):
    with serving(tmp_path / "registry") as registry:
        yield Importer(tmp_path / "home", registry)


def pem(key) -> str:
    return key.public.pem.decode()


def repacked(data: bytes, change) -> bytes:
    """The archive with its members changed by a function that gets and returns (name -> bytes)."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive}
    return tar_of(change(files))


def tar_of(files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_equal_exports_have_equal_bytes(exporter, data, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    os.umask(old := os.umask(0o077))
    os.umask(0o077)
    try:
        again = LayoutExports(tmp_path / "other", tmp_path, RegistryClient.for_reference, exporter.exports._origin,
                              _no_wheels)
        made = again.make([ExportItem(exporter.found, True)], "version = 1\n", Target(), lambda _t: None)
        assert b"".join(again.open(made.id)[1]) == data
    finally:
        os.umask(old)


def test_an_archive_is_an_oci_layout_with_signatures_and_attestations(data, tmp_path, exporter):
    path = tmp_path / "numbers.tar"
    path.write_bytes(data)
    entries = ImageLayout(path).manifests()
    assert {"numbers-0.1.0", "fuseml-export"} <= {e.annotations.get(media.REF_NAME) for e in entries}
    assert any((e.annotations.get(media.REF_NAME) or "").endswith(".sig") for e in entries)
    assert sum(e.artifact_type == "application/vnd.dev.sigstore.bundle.v0.3+json" for e in entries) == 2
    assert any(e.digest == exporter.found.digest for e in entries)


def test_an_export_goes_on_with_what_was_fetched(exporter, tmp_path):
    fetched = []

    class Counting(RegistryClient):
        def pull_blob(self, repository, descriptor, *args, **named):
            fetched.append(descriptor.digest)
            return super().pull_blob(repository, descriptor, *args, **named)

    def make():
        exports = LayoutExports(tmp_path / "t", tmp_path, lambda r: Counting(r.registry), exporter.exports._origin,
                                _no_wheels)
        return exports.make([ExportItem(exporter.found, True)], "", Target(), lambda _t: None)

    make()
    first = len(fetched)
    damaged = next(p for p in (tmp_path / "t/blobs/sha256").iterdir() if f"sha256:{p.name}" == fetched[0])
    damaged.chmod(0o600)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    make()
    assert first > 1
    assert fetched[first:] == [fetched[0]], "only what was damaged is fetched again"


def test_r169_a_signed_archive_is_placed_with_exact_bytes_and_its_signatures(exporter, importer, data, keys):
    [bundle] = importer.take(data, pem(keys[0]))
    assert bundle.digest == exporter.found.digest
    assert bundle.original.startswith(EXPORTER)
    assert bundle.trust.allowed
    assert bundle.trust.signers == (keys[0].public.fingerprint,)
    with RegistryClient(importer.registry, insecure=True) as there, RegistryClient(exporter.registry, insecure=True) as here:
        assert there.get_manifest("extensions/numbers", "0.1.0") == here.get_manifest("extensions/numbers", "0.1.0")
        assert ({d.digest for d in there.referrers("extensions/numbers", bundle.digest)}
                == {d.digest for d in here.referrers("extensions/numbers", bundle.digest)})
        tag = bundle.digest.replace(":", "-") + ".sig"
        assert there.get_manifest("extensions/numbers", tag) == here.get_manifest("extensions/numbers", tag)
    kept = importer.relocations.of(bundle.digest)
    assert kept.local == "extensions/numbers"
    assert kept.keys == (pem(keys[0]),)
    assert importer.relocations.local(parse(f"{EXPORTER}:0.1.0")) == kept
    assert importer.relocations.local(parse("oci://exporter.example/other/numbers:0.1.0")) is None
    importer.take(data, pem(keys[0]))  # again is fine


@pytest.mark.parametrize("which", ["no key", "wrong key", "reject", "allow", "threshold"])
def test_r169_the_policy_of_the_importing_machine_decides(importer, data, keys, which):
    rules = {"reject": '[[rule]]\nmatch = "exporter.example/**"\naction = "reject"\nreason = "not from there"\n',
             "allow": '[[rule]]\nmatch = "exporter.example/**"\naction = "allow"\n'}
    if which in rules:
        importer.write_policy(rules[which])
    if which == "threshold":
        importer.write_policy('[[rule]]\nmatch = "**"\nkeys = "marketplace"\nthreshold = 2\n')
    given = {"wrong key": [pem(keys[1])], "reject": [pem(keys[0])], "threshold": [pem(keys[0])]}.get(which, [])
    with pytest.raises(Refused) as refusal:
        importer.take(data, *given)
    assert "numbers 0.1.0" in refusal.value.message
    assert "--key" in refusal.value.hint
    assert importer.is_untouched()


def test_keys_pinned_by_a_rule_need_no_key_on_the_command_line(importer, data, keys):
    (importer.home / "team.pub").write_bytes(keys[0].public.pem)
    importer.write_policy('[[rule]]\nmatch = "exporter.example/**"\nkeys = ["team.pub"]\n')
    assert importer.take(data)[0].trust.allowed


def test_allow_unsigned_takes_what_nobody_known_signed_and_nothing_that_is_rejected(importer, data):
    assert importer.take(data, allow_unsigned=True)[0].trust.overridden
    importer.write_policy('[[rule]]\nmatch = "**"\naction = "reject"\n')
    with pytest.raises(Refused):
        importer.take(data, allow_unsigned=True)


def test_an_archive_cannot_pass_for_a_bundle_of_this_server(importer, exporter, keys, tmp_path):
    """It says that it comes from the importing machine's own registry, whose rule allows everything."""
    importer.write_policy('[[rule]]\nmatch = "embedded/**"\naction = "allow"\n')
    liar = LayoutExports(tmp_path / "t", tmp_path, RegistryClient.for_reference,
                         lambda r: Reference(importer.registry, r.repository, r.tag, r.digest),
                         _no_wheels)
    made = liar.make([ExportItem(exporter.found, True)], "", Target(), lambda _t: None)
    with pytest.raises(Refused, match="no rule"):
        importer.take(b"".join(liar.open(made.id)[1]), pem(keys[0]))
    assert importer.is_untouched()


def _flip(files):
    name = next(n for n in files if n.startswith("blobs/") and len(files[n]) > 3000)
    return {**files, name: files[name][:-1] + bytes([files[name][-1] ^ 1])}


def _without(files, wanted):
    return {name: content for name, content in files.items() if not wanted(name, content)}


def _index(files, change):
    index = json.loads(files["index.json"])
    change(index)
    return {**files, "index.json": json.dumps(index).encode()}


def _drop_referrers(index):
    index["manifests"] = [e for e in index["manifests"] if "sigstore" not in e.get("artifactType", "")
                          and not (e.get("annotations") or {}).get(media.REF_NAME, "").endswith(".sig")]


DAMAGE = {
    "changed blob": _flip,
    "no index": lambda files: _without(files, lambda name, _c: name == "index.json"),
    "no layer": lambda files: _without(files, lambda _n, content: len(content) > 3000),
    "index is no JSON": lambda files: {**files, "index.json": b"{"},
    "another file": lambda files: {**files, "blobs/../../../evil": b"x"},
    "absolute": lambda files: {**files, "/tmp/evil": b"x"},
    "huge index": lambda files: {**files, "index.json": b" " * (5 << 20)},
    "no export": lambda files: _index(files, lambda i: i.update(manifests=[e for e in i["manifests"] if "export" not in e.get("artifactType", "")])),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_or_hostile_archive_changes_nothing(importer, data, keys, name, tmp_path):
    with pytest.raises(Invalid) as error:
        importer.take(repacked(data, DAMAGE[name]), pem(keys[0]))
    assert error.value.hint
    assert importer.is_untouched()
    assert not (tmp_path / "evil").exists()
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(importer, data, keys, kind):
    buffer = io.BytesIO(data)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        member = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(Invalid):
        importer.take(buffer.getvalue(), pem(keys[0]))
    assert importer.is_untouched()


def test_an_archive_that_was_cut_off_or_lost_its_signatures_is_refused(importer, data, keys):
    with pytest.raises(Invalid, match="cut off|refused"):
        importer.take(data[: len(data) // 2], pem(keys[0]))
    with pytest.raises(Refused):
        importer.take(repacked(data, lambda files: _index(files, _drop_referrers)), pem(keys[0]))
    assert importer.is_untouched()


def test_an_archive_arrives_in_pieces_and_goes_on_after_a_break(importer, data, keys):
    digest = hashlib.sha256(data).hexdigest()
    imports = importer.imports
    assert imports.received(digest) == 0
    assert imports.receive(digest, 0, data[:1000]) == 1000
    with pytest.raises(Conflict) as conflict:
        imports.receive(digest, 0, data)
    assert conflict.value.details == {"received": 1000}
    with pytest.raises(Invalid, match="digest"):
        imports.admit(digest, Admission(), lambda _t: None)
    assert imports.received(digest) == 0, "a file with another digest is of no use"
    assert importer.take(data, pem(keys[0]))
    for name in ("../" + digest[:61], "A" * 64, ""):
        with pytest.raises(Invalid):
            imports.receive(name, 0, b"")


def test_a_version_that_is_taken_keeps_its_tag(importer, data, keys):
    other = build(SOURCE, dev=False)
    place = read_reference("numbers", importer.registry)
    with RegistryClient.for_reference(place) as client:
        taken = client.push_manifest("extensions/numbers", "0.1.0", _other_manifest(client, other), media.MANIFEST)
        [bundle] = importer.take(data, pem(keys[0]))
        assert client.resolve("extensions/numbers", "0.1.0").digest == taken != bundle.digest
        assert client.has_manifest("extensions/numbers", bundle.digest)


def _other_manifest(client, built) -> bytes:
    for digest, content in built.blobs.items():
        client.push_blob("extensions/numbers", content, digest, "application/octet-stream")
    document = json.loads(built.manifest)
    document["annotations"] = {"io.example": "other"}
    return json.dumps(document).encode()


def test_an_export_that_is_unknown_or_was_cleaned_away_is_not_found(exporter, tmp_path):
    for name in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(NotFound):
            exporter.exports.open(name)
    exports = LayoutExports(tmp_path, tmp_path, RegistryClient.for_reference, exporter.exports._origin,
                            _no_wheels)
    made = exports.make([ExportItem(exporter.found, True)], "", Target(), lambda _t: None)
    next((tmp_path / "blobs/sha256").iterdir()).unlink()
    with pytest.raises(FusemlError, match="cleaned away"):
        list(exports.open(made.id)[1])


def test_a_registry_without_the_referrers_api_gives_and_takes_the_same(exporter, data, keys, tmp_path):
    with docker_registry(tmp_path / "docker-registry") as place:
        there = Reference(place, "extensions/numbers")
        copy(parse(exporter.found.reference), there.with_tag("0.1.0"))
        found = FoundBundle(str(there.with_digest(exporter.found.digest)), exporter.found.digest, exporter.found.descriptor)
        exports = LayoutExports(tmp_path / "t", tmp_path, RegistryClient.for_reference,
                                lambda _r: exporter.exports._origin(parse(exporter.found.reference)), _no_wheels)
        made = exports.make([ExportItem(found, True)], "version = 1\n", Target(), lambda _t: None)
        assert b"".join(exports.open(made.id)[1]) == data
    with docker_registry(tmp_path / "another") as place:
        importer = Importer(tmp_path / "home", place)
        [bundle] = importer.take(data, pem(keys[0]))
        with RegistryClient(place, insecure=True) as client:
            assert len(client.referrers("extensions/numbers", bundle.digest)) == 2
            assert client.resolve("extensions/numbers", "0.1.0").digest == bundle.digest


def _with_wheel(files, data):
    """The archive with a wheel that nobody signed, as an artifact that refers to the bundle."""
    bundle = next(e for e in json.loads(files["index.json"])["manifests"]
                  if (e.get("annotations") or {}).get(media.REF_NAME) == "numbers-0.1.0")
    wheel = Descriptor("application/vnd.fuseml.wheel.v1", digest_bytes(data), len(data),
                       {media.TITLE: "numpy-99.0-py3-none-any.whl"})
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.WHEELS,
        "config": Descriptor(media.EMPTY, media.EMPTY_DIGEST, 2).to_json(), "layers": [wheel.to_json()],
        "subject": {key: bundle[key] for key in ("mediaType", "digest", "size")}})
    entry = {"mediaType": media.MANIFEST, "digest": digest_bytes(manifest), "size": len(manifest)}
    added = {"blobs/" + digest_bytes(blob).replace(":", "/"): blob for blob in (manifest, data, media.EMPTY_BYTES)}
    return _index({**files, **added}, lambda index: index["manifests"].append(entry))


def test_a_wheel_that_no_signed_lock_names_is_refused(importer, data, keys):
    with pytest.raises(Invalid, match="numpy-99"):
        importer.take(repacked(data, lambda files: _with_wheel(files, b"evil")), pem(keys[0]))
    assert importer.is_untouched()
    assert not (importer.home / "wheels").exists()


def test_a_given_key_vouches_alone_and_does_not_lower_what_a_catalog_asks_for(tmp_path):
    one, two, given = generate(), generate(), generate()
    (tmp_path / "policy.toml").write_text('version = 1\n[[rule]]\nmatch = "**"\nkeys = "marketplace"\n')
    judge, wanted = Judge(tmp_path / "policy.toml"), EndorsedKeys([one.public, two.public], 2)
    with serving(tmp_path / "registry") as registry, RegistryClient(registry, insecure=True) as client:
        pushed = push(build(SOURCE), read_reference("numbers", registry), client)
        source = RepositorySource(client, pushed.repository)

        def ask(*keys):
            pems = [key.public.pem.decode() for key in keys]
            made = judge.decide(f"{EXPORTER}@{pushed.digest}", pushed.digest, source, pems, endorsed=wanted)
            return made, judge.doubt(f"{EXPORTER}@{pushed.digest}", made, pems, wanted)

        sign(client, pushed, one)
        assert not ask()[0].allowed
        assert not ask(given)[0].allowed
        sign(client, pushed, given)
        made, doubt = ask(given)
        assert (made.allowed, made.signers, doubt) == (True, (given.public.fingerprint,), None)
        assert judge.doubt(f"{EXPORTER}@{pushed.digest}", made, [], wanted).allowed is False
        sign(client, pushed, two)
        assert len(ask()[0].signers) == 2
        assert ask()[1] is None
