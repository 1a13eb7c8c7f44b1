"""Independent judges of our signatures: the cosign command and the Sigstore library for JavaScript.

cosign verifies what we sign and we verify what cosign signs, in both layouts, on our registry (referrers API) and on
docker-registry (fallback tag).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json, read_descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.signing import attest, attestations, generate, load_private, load_public, sign, verify
from fuseml_oci.sources import RepositorySource
from fuseml_sdk.environments import trusted_authorities

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]
#: The checksum database vouches for what arrives; npm keeps integrity hashes of its registry.
COSIGN = "github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3"
SIGSTORE = ("@sigstore/verify@4.1.3", "@sigstore/bundle@5.0.1")
PASSWORD, KEY, STRANGER = b"correct horse", generate(), generate()
SLSA = "https://slsa.dev/provenance/v1"
Cosign = Callable[..., subprocess.CompletedProcess[str]]

VERIFY = """
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity } = require('@sigstore/verify');
const { readFileSync } = require('fs');
const { createPublicKey } = require('crypto');
const [bundle, key] = process.argv.slice(2).map((name) => readFileSync(name, 'utf8'));
const publicKey = createPublicKey(key);
const trust = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [],
                publicKey: () => ({ publicKey, validFor: () => true }) };
const entity = toSignedEntity(bundleFromJSON(JSON.parse(bundle)));
new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }).verify(entity);
process.stdout.write('verified');
"""


def missing(reason: str) -> NoReturn:
    """Continuous integration has Go, Node and their registries; a person may do without."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The cosign command, made from its pinned module; Go's own caches are used."""
    binaries = tmp_path_factory.mktemp("bin")
    go = shutil.which("go", path=f"{os.environ['PATH']}{os.pathsep}/usr/local/go/bin")
    if go is None:
        missing("Go is not installed: neither on PATH nor in /usr/local/go (https://go.dev/doc/install)")
    environment = {**os.environ, "GOBIN": str(binaries), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    if not environment.get("HOME"):
        environment |= {"GOPATH": str(binaries / "go"), "GOCACHE": str(binaries / "cache"), "GOFLAGS": "-modcacherw"}
    done = subprocess.run([go, "install", COSIGN], env=environment, capture_output=True, text=True, timeout=1100)
    if done.returncode:
        missing(f"`go install {COSIGN}` failed: {done.stderr.strip()[-500:]}")
    return binaries / "cosign"


@pytest.fixture
def cosign(built, tmp_path) -> Cosign:
    """Run cosign in the test's directory, without any service in the internet; returns what it did."""
    environment = {**os.environ, "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path),
                   "COSIGN_PASSWORD": PASSWORD.decode()}

    def ran(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([built, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=60)
        assert (done.returncode == 0) == (code == 0), f"cosign {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    return ran


@pytest.fixture(params=["ours", "docker-registry"])
def place(request, tmp_path) -> Reference:
    """A small artifact of the test's own, in a registry with and one without the referrers API."""
    host = request.getfixturevalue("registry").host if request.param == "ours" else \
        request.getfixturevalue("docker_registry")
    for name, key in (("ours", KEY), ("stranger", STRANGER)):
        (tmp_path / f"{name}.key").write_bytes(key.encrypted(PASSWORD))
        (tmp_path / f"{name}.pub").write_bytes(key.public.pem)
    return push(host, request.node.name)


def push(host: str, text: str) -> Reference:
    empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
    data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "config": empty,
                           "layers": [empty], "annotations": {"text": text}})
    with RegistryClient(host) as client:
        client.push_blob("signed/tool", b"{}", media.EMPTY_DIGEST, media.EMPTY)
        client.push_manifest("signed/tool", digest_bytes(data), data, media.MANIFEST)
    return Reference(host, "signed/tool", digest=digest_bytes(data))


def shown(place: Reference) -> str:
    return str(place).removeprefix("oci://")


CHECK = ("--insecure-ignore-tlog", "--allow-http-registry")
MAKE = ("--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry", "--yes")
FORMATS = {"bundle": (), "legacy": ("--new-bundle-format=false",)}


@pytest.mark.parametrize("layout", FORMATS)
def test_cosign_verifies_what_we_sign(cosign, place, layout):
    other = push(place.registry, "another")
    with RegistryClient(place.registry) as client:
        sign(client, place, KEY, [layout])
    done = cosign("verify", "--key", "ours.pub", *CHECK, *FORMATS[layout], shown(place))
    assert place.digest in done.stdout
    cosign("verify", "--key", "stranger.pub", *CHECK, *FORMATS[layout], shown(place), code=1)
    cosign("verify", "--key", "ours.pub", *CHECK, *FORMATS[layout], shown(other), code=1)


def test_cosign_finds_the_older_layout_by_itself(cosign, place):
    with RegistryClient(place.registry) as client:
        sign(client, place, KEY, ["legacy"])
    cosign("verify", "--key", "ours.pub", *CHECK, shown(place))


@pytest.mark.parametrize("layout", FORMATS)
def test_we_verify_what_cosign_signs(cosign, place, tmp_path, layout):
    cosign("generate-key-pair")
    theirs = load_private(tmp_path / "cosign.key", PASSWORD)
    assert theirs.public == load_public(tmp_path / "cosign.pub")
    for key in ("cosign.key", "ours.key"):  # cosign reads our keys as well
        cosign("sign", "--key", key, *MAKE, *FORMATS[layout], shown(place))
    with RegistryClient(place.registry) as client:
        source, faults = RepositorySource(client, place.repository), []
        found = verify(source, place.digest, [theirs.public, KEY.public], faults.append)
        assert {(s.layout, s.key) for s in found} == {(layout, theirs.fingerprint), (layout, KEY.fingerprint)}
        assert faults == []
        assert verify(source, place.digest, [STRANGER.public]) == []
        assert verify(source, push(place.registry, "another").digest, [KEY.public]) == []
        sign(client, place, STRANGER, [layout])  # ours beside theirs
    cosign("verify", "--key", "cosign.pub", *CHECK, *FORMATS[layout], shown(place))
    cosign("verify", "--key", "stranger.pub", *CHECK, *FORMATS[layout], shown(place))


def test_attestations_both_ways(cosign, place, tmp_path):
    (tmp_path / "predicate.json").write_text('{"buildDefinition": {"buildType": "theirs"}}')
    check = ("verify-attestation", "--type", "slsaprovenance1", *CHECK)
    with RegistryClient(place.registry) as client:
        attest(client, place, SLSA, {"buildDefinition": {"buildType": "ours"}}, KEY)
        done = cosign(*check, "--key", "ours.pub", shown(place))
        envelope = json.loads(done.stdout)
        statement = json.loads(base64.b64decode(envelope["payload"]))
        assert statement["predicate"] == {"buildDefinition": {"buildType": "ours"}}
        cosign(*check, "--key", "stranger.pub", shown(place), code=1)
        cosign("attest", "--key", "stranger.key", "--type", "slsaprovenance1", "--predicate", "predicate.json", *MAKE,
               shown(place))
        source = RepositorySource(client, place.repository)
        (found,) = attestations(source, place.digest, [STRANGER.public])
        assert (found.predicate_type, found.predicate["buildDefinition"]["buildType"]) == (SLSA, "theirs")


def test_we_verify_the_older_attestations_of_cosign(cosign, place, tmp_path):
    (tmp_path / "predicate.json").write_text('{"buildDefinition": {"buildType": "older"}}')
    for key in ("stranger.key", "ours.key"):
        cosign("attest", "--key", key, "--type", "slsaprovenance1", "--predicate", "predicate.json", *MAKE,
               *FORMATS["legacy"], shown(place))
    with RegistryClient(place.registry) as client:
        source, faults = RepositorySource(client, place.repository), []
        (found,) = attestations(source, place.digest, [STRANGER.public], [SLSA], faults.append)
        assert (found.key, found.predicate["buildDefinition"]["buildType"]) == (STRANGER.fingerprint, "older")
        assert [(f.layout, f.is_signature) for f in faults] == [("legacy", True)]
        assert verify(source, place.digest, [STRANGER.public]) == []


def test_cosign_opens_the_keys_that_we_encrypt(cosign, place):
    done = cosign("public-key", "--key", "ours.key")
    assert done.stdout.strip().encode() == KEY.public.pem.strip()


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Path:
    """A folder with the Sigstore library for JavaScript."""
    folder = tmp_path_factory.mktemp("npm")
    if shutil.which("npm") is None or shutil.which("node") is None:
        missing("Node is not installed: apt-get install nodejs npm")
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, *SIGSTORE],
                          cwd=folder, capture_output=True, text=True, timeout=170,
                          env={"NODE_EXTRA_CA_CERTS": trusted_authorities(), **os.environ,
                               "npm_config_cache": str(folder / "cache")})
    if done.returncode:
        missing(f"`npm install {' '.join(SIGSTORE)}` failed: {done.stderr.strip()[-500:]}")
    (folder / "verify.js").write_text(VERIFY)
    return folder


def test_the_sigstore_library_verifies_our_bundle(modules, registry, tmp_path):
    def judged(bundle: bytes, key: bytes) -> bool:
        (tmp_path / "bundle.json").write_bytes(bundle)
        (tmp_path / "key.pub").write_bytes(key)
        done = subprocess.run(["node", modules / "verify.js", tmp_path / "bundle.json", tmp_path / "key.pub"],
                              cwd=modules, capture_output=True, text=True, timeout=60)
        assert done.stdout == "verified" or done.returncode, done.stderr
        return done.returncode == 0

    place = push(registry.host, "javascript")
    with RegistryClient(place.registry) as client:
        (signature,) = sign(client, place, KEY, ["bundle"])
        source = RepositorySource(client, place.repository)
        layer = json.loads(source.manifest(signature.digest))["layers"][0]
        content = source.blob(read_descriptor(layer, "layer"))
    assert judged(content, KEY.public.pem)
    assert not judged(content, STRANGER.public.pem)
    document = json.loads(content)
    payload = base64.b64decode(document["dsseEnvelope"]["payload"]).decode()
    document["dsseEnvelope"]["payload"] = base64.b64encode(
        payload.replace(place.digest.partition(":")[2], "0" * 64).encode()).decode()
    assert not judged(json.dumps(document).encode(), KEY.public.pem)
