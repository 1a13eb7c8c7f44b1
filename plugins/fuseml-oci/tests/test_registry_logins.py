"""docker-registry of Debian with passwords (htpasswd) and with a token server, as private registries run them (R65)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import copy
from fuseml_oci.credentials import Credentials, find_credentials
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.login import log_in
from fuseml_oci.reference import parse
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

ME, WRONG = Credentials("me", "top secret"), Credentials("me", "top-secret")
EMPTY = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
DATA = os.urandom(200_000)
MANIFEST = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "config": EMPTY,
                           "layers": [Descriptor("x/y", digest_bytes(DATA), len(DATA)).to_json()]})


def command(name, package):
    found = shutil.which(name)
    if found is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: apt-get install {package}")
    return found


def push(client, repository):
    client.push_blob(repository, b"{}", media.EMPTY_DIGEST, media.EMPTY)
    client.push_blob(repository, DATA, digest_bytes(DATA), "x/y")
    client.push_manifest(repository, "v1", MANIFEST, media.MANIFEST)


def pull(client, repository, folder):
    assert client.get_manifest(repository, "v1")[0] == MANIFEST
    client.pull_blob(repository, Descriptor("x/y", digest_bytes(DATA), len(DATA)), folder / "layer")
    assert (folder / "layer").read_bytes() == DATA


def refused_at_once(host, credentials):
    before = time.monotonic()
    with RegistryClient(host, credentials=credentials) as client:
        for call in (client.ping, lambda: push(client, "a/b"), lambda: client.get_manifest("a/b", "v1")):
            with pytest.raises(Permanent, match="401"):
                call()
    assert time.monotonic() - before < 3, "a wrong password does not become right by waiting"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, run_docker_registry):
    """docker-registry that asks for a password."""
    folder = tmp_path_factory.mktemp("guarded")
    done = subprocess.run([command("htpasswd", "apache2-utils"), "-Bin", ME.username], input=ME.password,
                          capture_output=True, text=True, check=True)
    (folder / "htpasswd").write_text(done.stdout)
    with run_docker_registry(folder, auth={"htpasswd": {"realm": "x", "path": str(folder / "htpasswd")}}) as host:
        yield host


def test_r65_push_and_pull_with_a_password(guarded, tmp_path):
    with RegistryClient(guarded, credentials=ME) as client:
        push(client, "team/app")
        pull(client, "team/app", tmp_path)
    refused_at_once(guarded, WRONG)
    refused_at_once(guarded, None)


def test_login_and_the_tools_of_containers_share_credentials(guarded, tmp_path, monkeypatch):
    skopeo, docker = command("skopeo", "skopeo"), tmp_path / "docker"
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    with pytest.raises(InvalidInput, match="refuses"):
        log_in(guarded, WRONG, lambda host, credentials: RegistryClient(host, credentials=credentials))
    log_in(guarded, ME, lambda host, credentials: RegistryClient(host, credentials=credentials))
    with RegistryClient(guarded) as client:
        push(client, "team/shared")
    listed = subprocess.run([skopeo, "list-tags", "--tls-verify=false", "--authfile", docker / "config.json",
                             f"docker://{guarded}/team/shared"], check=True, capture_output=True, timeout=60)
    assert json.loads(listed.stdout)["Tags"] == ["v1"]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    subprocess.run([skopeo, "login", "--tls-verify=false", "--authfile", tmp_path / "auth.json", "--username",
                    ME.username, "--password-stdin", guarded], input=ME.password.encode(), check=True, timeout=60,
                   capture_output=True)
    with RegistryClient(guarded) as client:
        pull(client, "team/shared", tmp_path)


def test_r65_the_login_command(guarded, tmp_path):
    fuseml = [sys.executable, "-c", "import sys; from fuseml_core.cli import main; sys.exit(main(sys.argv[1:]))"]
    env = {**os.environ, "HOME": str(tmp_path), "FUSEML_HOME": str(tmp_path / "fuseml")}
    env.pop("DOCKER_CONFIG", None)

    def run(*arguments, password=""):
        return subprocess.run([*fuseml, "registry", *arguments], env=env, input=password, capture_output=True, text=True,
                              timeout=60, check=False)

    wrong = run("login", guarded, "--username", "me", "--password-stdin", password="nonsense\n")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "refuses this user name and password" in wrong.stderr
    assert "nonsense" not in wrong.stderr
    good = run("login", guarded, "--username", "me", "--password-stdin", password=f"{ME.password}\n")
    assert good.returncode == 0, good.stderr
    assert f"Logged in to {guarded} as me; kept in {tmp_path}/.docker/config.json" in good.stdout
    assert find_credentials(guarded, env) == ME
    assert run("login", guarded, "--password-stdin", password="x").returncode == 2
    assert run("logout", guarded).stdout == f"Logged out of {guarded}\n"
    assert json.loads(run("logout", guarded, "-o", "json").stdout) == {"registry": guarded, "forgotten": False}
    assert find_credentials(guarded, env) is None


class TokenServer:
    """Tokens as the distribution documentation has them: JSON web tokens, signed with a key that the registry trusts."""

    def __init__(self, evil, answer, folder):
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
                       .serial_number(1).not_valid_before(now - timedelta(days=1))
                       .not_valid_after(now + timedelta(days=1)).sign(self.key, hashes.SHA256()))
        (folder / "root.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.evil, self.answer, self.asked, self.left = evil, answer, [], 300
        self.settings = {"token": {"realm": f"http://{evil.host}/token", "service": "test", "issuer": "tests",
                                   "rootcertbundle": str(folder / "root.pem")}}
        evil.behave = self.behave

    def behave(self, handler):
        query = parse_qs(urlsplit(handler.path).query)
        if handler.command == "POST":
            query = parse_qs(handler.body.decode())
            right = query.get("refresh_token") == ["refresh me"] and query["grant_type"] == ["refresh_token"]
        else:
            right = handler.headers.get("Authorization") == ME.basic
        self.asked.append((handler.command, query.get("scope", [])))
        if not right:
            return self.answer(handler, 401, b"{}")
        token = self.token(query.get("scope", []))
        return self.answer(handler, 200, json.dumps({"access_token": token, "expires_in": 300}).encode())

    def token(self, scopes):
        def encoded(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        spki = self.key.public_key().public_bytes(serialization.Encoding.DER,
                                                  serialization.PublicFormat.SubjectPublicKeyInfo)
        name = base64.b32encode(sha256(spki).digest()[:30]).decode()
        access = [{"type": kind, "name": place, "actions": actions.split(",")}
                  for scope in scopes for part in scope.split() for kind, place, actions in [part.rsplit(":", 2)]]
        now = int(time.time())
        parts = [{"typ": "JWT", "alg": "ES256", "kid": ":".join(name[n:n + 4] for n in range(0, 48, 4))},
                 {"iss": "tests", "sub": "me", "aud": "test", "exp": now + self.left, "nbf": now - 100, "iat": now,
                  "jti": os.urandom(8).hex(), "access": access}]
        text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@pytest.fixture
def tokens(evil, answer, tmp_path):
    (tmp_path / "registry").mkdir()
    return TokenServer(evil, answer, tmp_path / "registry")


@pytest.fixture
def issued(tokens, tmp_path, run_docker_registry):
    """docker-registry that takes tokens only."""
    with run_docker_registry(tmp_path / "registry", auth=tokens.settings) as host:
        yield host


def test_r65_push_and_pull_with_tokens(issued, tokens, tmp_path):
    with RegistryClient(issued, credentials=ME) as client:
        push(client, "team/app")
        pull(client, "team/app", tmp_path)
        pull(client, "team/app", tmp_path)
    assert len(tokens.asked) == 3, "one token each for reading, writing, and giving up an upload session"
    before = len(tokens.asked)
    refused_at_once(issued, WRONG)
    refused_at_once(issued, None)
    assert len(tokens.asked) - before <= 12


def test_tokens_that_the_registry_finds_too_old_are_renewed_once(issued, tokens, tmp_path):
    tokens.left = -59  # the registry allows its clock a difference of a minute
    with RegistryClient(issued, credentials=ME) as client:
        push(client, "team/app")
        time.sleep(1.5)
        before = len(tokens.asked)
        pull(client, "team/app", tmp_path)
        assert len(tokens.asked) - before <= 2
        tokens.left = -90
        time.sleep(1.5)
        before = len(tokens.asked)
        with pytest.raises(Permanent, match="401"):
            client.get_manifest("team/app", "v1")
        assert len(tokens.asked) - before == 1, "a token that is refused is not asked for again and again"


def test_identity_tokens_are_exchanged_for_tokens(issued, tokens, tmp_path):
    with RegistryClient(issued, credentials=Credentials("", identity_token="refresh me")) as client:
        push(client, "team/app")
        pull(client, "team/app", tmp_path)
    assert {method for method, _ in tokens.asked} == {"POST"}
    refused_at_once(issued, Credentials("", identity_token="another"))


def test_blobs_are_mounted_with_a_token_for_both_repositories(issued, tokens):
    with RegistryClient(issued, credentials=ME) as client:
        push(client, "team/from")
        report = copy(parse(f"oci://{issued}/team/from:v1"), parse(f"oci://{issued}/team/to"), connect=lambda _: client)
        assert (report.mounted, report.sent) == (2, 0)
        assert client.get_manifest("team/to", "v1")[0] == MANIFEST
    assert any("team/from" in scope and "team/to" in scope for scope in (" ".join(s) for _, s in tokens.asked))


def test_nothing_is_told_about_what_is_not_there(issued):
    with RegistryClient(issued, credentials=ME) as client, pytest.raises(NotFound):
        client.get_manifest("team/missing", "v1")
