"""What a new server makes to trust its own registry, and what it does when that is damaged or taken away."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions.bundles import RegistryBundles
from fuseml_core.adapters.extensions.trust import PolicyTrust, RegistrySigner, establish
from fuseml_core.domain.errors import Invalid, NotFound, Refused
from fuseml_core.service.extensions.ports import Wish
from fuseml_oci.reference import Reference
from fuseml_oci.signing import generate, load_private, load_public

EMBEDDED = "http://127.0.0.1:9"
DIGEST = "sha256:" + "0" * 64


class Nothing:
    """A repository without referrers and tags."""

    def referrers(self, digest):
        return []

    def tagged(self, tag):
        return None


@pytest.fixture
def home(tmp_path) -> Path:
    establish(tmp_path)
    return tmp_path


def trust(home: Path) -> PolicyTrust:
    return PolicyTrust(home / "policy.toml", lambda: EMBEDDED, home / "keys")


def signer(home: Path) -> RegistrySigner:
    return RegistrySigner(lambda: EMBEDDED, home / "keys")


def test_a_new_home_gets_a_key_and_a_policy_that_others_cannot_touch(home):
    modes = {path.relative_to(home).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*")}
    assert modes == {"keys": 0o700, "keys/registry.key": 0o600, "keys/registry.pub": 0o644, "policy.toml": 0o600}
    assert load_private(home / "keys/registry.key", unencrypted=True).public == load_public(home / "keys/registry.pub")
    before = {path: path.read_bytes() for path in home.rglob("*.*")}
    establish(home)
    assert {path: path.read_bytes() for path in home.rglob("*.*")} == before


def test_what_somebody_wrote_or_took_away_stays_so(home):
    (home / "policy.toml").write_text("version = 1\n")
    (home / "keys/registry.key").unlink()
    establish(home)
    assert (home / "policy.toml").read_text() == "version = 1\n"
    assert not (home / "keys/registry.key").exists()
    with pytest.raises(Refused, match="cannot sign") as caught:
        signer(home).sign(f"extensions/mlflow@{DIGEST}")
    assert "--key FILE" in caught.value.hint


def test_a_lost_public_half_is_made_again(home):
    before = (home / "keys/registry.pub").read_bytes()
    (home / "keys/registry.pub").unlink()
    establish(home)
    assert (home / "keys/registry.pub").read_bytes() == before


def test_a_key_that_others_can_read_is_not_used(home):
    (home / "keys/registry.key").chmod(0o640)
    with pytest.raises(Refused, match="read by other users") as caught:
        signer(home).sign(f"extensions/mlflow@{DIGEST}")
    assert "chmod 600" in caught.value.hint


def test_an_encrypted_key_is_nothing_for_a_server(home):
    (home / "keys/registry.key").write_bytes(generate().encrypted(b"secret"))
    with pytest.raises(Refused, match="is encrypted") as caught:
        signer(home).sign(f"extensions/mlflow@{DIGEST}")
    assert "--key FILE" in caught.value.hint


@pytest.mark.parametrize("reference", ["mlflow", "extensions/mlflow", "extensions/mlflow:0.1.0", "extensions/mlflow@",
                                       f"extensions/mlflow:0.1.0@{DIGEST}", f"../etc@{DIGEST}", f"@{DIGEST}",
                                       "extensions/mlflow@sha256:00", f"oci://example.org/a@{DIGEST}"])
def test_only_digests_in_the_own_registry_are_signed(home, reference):
    with pytest.raises(Invalid):
        signer(home).sign(reference)


@pytest.mark.parametrize(("content", "words"), [(None, "no policy file"), ("version = 2\n", "line 1: version is 2"),
                                                ("[[rule]", "not TOML")])
def test_a_policy_that_cannot_be_read_allows_nothing(home, content, words):
    (home / "policy.toml").unlink()
    if content is not None:
        (home / "policy.toml").write_text(content)
    made = trust(home).decide(Reference("127.0.0.1:9", "extensions/mlflow"), DIGEST, Nothing())
    assert (made.allowed, made.overridable) == (False, False)
    assert words in made.reason
    with pytest.raises((Invalid, NotFound), match=words):
        trust(home).show()


def test_the_policy_is_read_at_every_decision(home):
    def allowed() -> bool:
        return trust(home).decide(Reference("ghcr.io", "a/b"), DIGEST, Nothing()).allowed

    assert not allowed()
    (home / "policy.toml").write_text('version = 1\n[[rule]]\nmatch = "ghcr.io/**"\naction = "allow"\n')
    assert allowed()


def test_a_rejected_place_is_not_even_asked(home):
    (home / "policy.toml").write_text('version = 1\n[[rule]]\nmatch = "evil.example/**"\naction = "reject"\nreason = "No."\n')
    checked = trust(home).check("oci://evil.example/a/tool:1.0.0")
    assert (checked["name"], checked["version"], checked["allowed"], checked["overridable"]) == ("tool", "1.0.0", False, False)
    assert "No." in checked["reason"]
    assert trust(home).check("oci://good.example/a/tool:1.0.0") is None
    bundles = RegistryBundles(lambda: EMBEDDED, home, None, trust=trust(home))
    with pytest.raises(Refused, match="rejects it: No."):  # the host does not exist
        bundles.find("oci://evil.example/a/tool:1.0.0", Wish())


def test_rules_are_shown_with_fingerprints_and_with_what_is_wrong(home):
    rules = trust(home).show()["rules"]
    assert rules[0]["keys"] == [{"path": str(home / "keys/registry.pub"), "error": "",
                                 "fingerprint": load_public(home / "keys/registry.pub").fingerprint}]
    assert trust(home).own_signers() == [rules[0]["keys"][0]["fingerprint"]]
    (home / "keys/registry.pub").write_bytes(generate().unencrypted())
    assert "private key where a public" in trust(home).show()["rules"][0]["keys"][0]["error"]
    assert trust(home).own_signers() == []
