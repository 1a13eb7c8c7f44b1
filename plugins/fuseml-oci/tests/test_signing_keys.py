"""Keys as cosign and openssl keep them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml_oci.signing import generate, is_encrypted, load_private, load_public
from fuseml_oci.signing.encryption import decrypt, encrypt, read_pem, write_pem
from fuseml_oci.signing.store import KeyStore
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

#: Made by cosign 3.1.3 with the password "pässword"; it signs nothing but tests.
COSIGN_KEY = (Path(__file__).parent / "data/cosign.key").read_bytes()
COSIGN_PUB = (Path(__file__).parent / "data/cosign.pub").read_bytes()
PASSWORD = "pässword".encode()


def openssl(*arguments: object, **more: object) -> bytes:
    command = shutil.which("openssl")
    assert command, "openssl is not installed: apt-get install openssl"
    return subprocess.run([command, *map(str, arguments)], check=True, capture_output=True, timeout=30, **more).stdout


@settings(max_examples=5, deadline=None)
@given(password=st.binary(max_size=64), secret=st.binary(min_size=1, max_size=300))
def test_an_encrypted_secret_comes_back(password, secret):
    label, content = read_pem(encrypt(secret, password), "test")
    assert label == "ENCRYPTED SIGSTORE PRIVATE KEY"
    assert decrypt(content, password, "test") == secret
    with pytest.raises(Permanent, match="password does not open"):
        decrypt(content, password + b"x", "test")


@given(st.binary(max_size=500))
def test_pem_comes_back(content):
    assert read_pem(write_pem("A LABEL", content), "test") == ("A LABEL", content)


def test_cosigns_own_key_opens_and_fits_its_public_half(tmp_path):
    private, public = tmp_path / "cosign.key", tmp_path / "cosign.pub"
    private.write_bytes(COSIGN_KEY)
    public.write_bytes(COSIGN_PUB)
    assert is_encrypted(private)
    key = load_private(private, PASSWORD)
    assert key.public == load_public(public)
    assert key.public.pem == COSIGN_PUB
    assert key.public.verifies(b"data", key.sign(b"data"))
    with pytest.raises(Permanent, match="password"):
        load_private(private, b"password")
    with pytest.raises(InvalidInput, match="no password was given"):
        load_private(private)


def test_the_fingerprint_is_the_hash_of_what_openssl_calls_the_public_key(tmp_path):
    key = generate()
    (tmp_path / "k.pub").write_bytes(key.public.pem)
    der = openssl("pkey", "-pubin", "-in", tmp_path / "k.pub", "-outform", "DER")
    assert key.fingerprint == f"sha256:{hashlib.sha256(der).hexdigest()}"
    assert base64.b64decode(key.public.hint).hex() == key.fingerprint.removeprefix("sha256:")


def test_openssl_reads_our_plain_key_and_verifies_our_signature(tmp_path):
    key = generate()
    (tmp_path / "k.key").write_bytes(key.unencrypted())
    (tmp_path / "k.pub").write_bytes(key.public.pem)
    (tmp_path / "data").write_bytes(b"some data")
    (tmp_path / "sig").write_bytes(key.sign(b"some data"))
    verify = ("dgst", "-sha256", "-verify", tmp_path / "k.pub", "-signature")
    assert b"Verified OK" in openssl(*verify, tmp_path / "sig", tmp_path / "data")
    openssl("dgst", "-sha256", "-sign", tmp_path / "k.key", "-out", tmp_path / "sig2", tmp_path / "data")
    assert key.public.verifies(b"some data", (tmp_path / "sig2").read_bytes())
    assert not key.public.verifies(b"some date", (tmp_path / "sig2").read_bytes())
    assert not key.public.verifies(b"some data", b"")
    assert not key.public.verifies(b"some data", b"\x30\x06\x02\x01\x00\x02\x01\x00")


def test_a_key_never_shows_itself():
    key = generate()
    assert repr(key) == f"PrivateKey({key.fingerprint})"


@pytest.fixture
def store(tmp_path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def test_generated_keys_are_private_and_never_overwritten(store):
    made = store.generate("team", lambda: b"secret")
    assert stat.S_IMODE(made.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert load_private(made.private, b"secret").fingerprint == made.fingerprint
    before = made.private.read_bytes()
    for again in (lambda: store.generate("team", lambda: b"x"),
                  lambda: store.take(made.public, "team", lambda _: b"", lambda: b"")):
        with pytest.raises(InvalidInput, match="there already"):
            again()
    assert made.private.read_bytes() == before
    made.public.unlink()
    with pytest.raises(InvalidInput, match="there already"):
        store.generate("team", lambda: pytest.fail("asked for a password in vain"))


def test_a_dangling_link_is_not_followed(store, tmp_path):
    store.folder.mkdir()
    (store.folder / "team.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="there already"):
        store.generate("team", lambda: b"secret")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("form", ["sec1", "pkcs8", "pkcs8-encrypted", "cosign", "public"])
def test_import_takes_what_openssl_and_cosign_make(store, tmp_path, form):
    source = tmp_path / "source.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp_path / "sec1.pem")
    if form == "sec1":
        (tmp_path / "sec1.pem").rename(source)
    elif form == "cosign":
        source.write_bytes(COSIGN_KEY)
    elif form == "public":
        openssl("ec", "-in", tmp_path / "sec1.pem", "-pubout", "-out", source)
    else:
        hidden = ["-passout", f"pass:{PASSWORD.decode()}"] if form == "pkcs8-encrypted" else ["-nocrypt"]
        openssl("pkcs8", "-topk8", "-in", tmp_path / "sec1.pem", "-out", source, *hidden)
    asked = []
    made = store.take(source, "theirs", lambda path: asked.append(path) or PASSWORD, lambda: b"new")
    assert made.fingerprint.startswith("sha256:")
    assert asked == ([source] if form in ("cosign", "pkcs8-encrypted") else [])
    if form == "public":
        assert made.private is None
    else:
        assert is_encrypted(made.private)
        password = PASSWORD if asked else b"new"
        assert load_private(made.private, password).fingerprint == made.fingerprint
    assert [key.name for key in store.list()] == ["theirs"]


def test_plain_keys_need_to_be_asked_for(tmp_path):
    path = tmp_path / "plain.key"
    path.write_bytes(generate().unencrypted())
    with pytest.raises(InvalidInput, match="not encrypted") as caught:
        load_private(path)
    assert "fuseml key import" in caught.value.hint
    assert load_private(path, unencrypted=True)


@pytest.mark.parametrize("arguments", [("genrsa", "-out"), ("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out"),
                                       ("genpkey", "-algorithm", "ed25519", "-out")], ids=["rsa", "p384", "ed25519"])
def test_other_kinds_of_keys_are_refused_by_name(store, tmp_path, arguments):
    source = tmp_path / "other.pem"
    openssl(*arguments, source, *(["2048"] if arguments[0] == "genrsa" else []))
    with pytest.raises(InvalidInput, match=r"RSA|secp384r1|Ed25519") as caught:
        store.take(source, "other", lambda _: b"", lambda: b"x")
    assert "P-256" in caught.value.hint
    assert store.list() == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a.key", "a.pub", "a" * 200, "a b", "a\nb", "-x"])
def test_names_of_keys_stay_in_their_folder(store, name):
    with pytest.raises(InvalidInput, match="name of a key"):
        store.generate(name, lambda: b"x")


def test_missing_and_damaged_keys_are_explained(store, tmp_path):
    with pytest.raises(NotFound, match="no key 'nobody'"):
        store.get("nobody")
    with pytest.raises(NotFound, match="no file nobody and no key"):
        store.public("nobody")
    path = tmp_path / "bad.pub"
    for content, words in ((b"", "PEM"), (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged"),
                           (COSIGN_KEY, "private key where a public"), (b"x" * 100_000, "larger than"),
                           (COSIGN_PUB + COSIGN_PUB, "one block"), (COSIGN_PUB.replace(b"M", b"%", 1), "base64")):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=words):
            load_public(path)
    path.write_bytes(COSIGN_PUB)
    with pytest.raises(InvalidInput, match="public key where a private"):
        load_private(path)


def altered(**changes: object) -> bytes:
    label, content = read_pem(COSIGN_KEY, "test")
    document = json.loads(content)
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return write_pem(label, json.dumps(document).encode())


@pytest.mark.parametrize(("changes", "words"), [
    ({"kdf": {"params": {"N": 1 << 30, "r": 8, "p": 1}}}, "parameters"),
    ({"kdf": {"params": {"N": 65536, "r": 8, "p": 1 << 20}}}, "parameters"),
    ({"kdf": {"name": "none"}}, "unknown method"), ({"cipher": {"name": "plain"}}, "unknown method"),
    ({"cipher": {"nonce": "AAAA"}}, "nonce of 3 bytes"), ({"ciphertext": "!"}, "not base64"), ({"kdf": 1}, "kdf")],
    ids=["memory", "time", "kdf", "cipher", "nonce", "ciphertext", "shape"])
def test_a_hostile_key_file_is_refused_before_any_work(tmp_path, changes, words):
    path = tmp_path / "evil.key"
    path.write_bytes(altered(**changes))
    with pytest.raises(InvalidInput, match=words):
        load_private(path, PASSWORD)


def test_errors_hold_no_secret(tmp_path):
    path = tmp_path / "k.key"
    path.write_bytes(COSIGN_KEY)
    with pytest.raises(Permanent) as caught:
        load_private(path, b"wrong-horse-battery")
    text = f"{caught.value} {caught.value.details}"
    assert "horse" not in text
    assert not re.search(r"[A-Za-z0-9+/]{40}", text.replace(str(tmp_path), ""))
