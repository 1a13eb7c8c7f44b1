"""The policy file and its decisions (R169: an admin says whose extensions are installed)."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.signing import attest, generate, sign
from fuseml_oci.sources import RepositorySource
from fuseml_oci.trust import EndorsedKeys, decide, default_policy, read_policy, subject_of
from fuseml_oci.trust.scope import check_glob, matches
from fuseml_sdk.errors import InvalidInput, NotFound

OURS, TEAM, RELEASE = generate(), generate(), generate()
SLSA = "https://slsa.dev/provenance/v1"
HEAD = "version = 1\n\n"
EMBEDDED = "127.0.0.1:8765"


@pytest.fixture
def write(tmp_path):
    """Write a policy file with the keys ours, team and release beside it; returns its path."""
    (tmp_path / "keys").mkdir()
    for name, key in (("registry", OURS), ("team", TEAM), ("release", RELEASE)):
        (tmp_path / f"keys/{name}.pub").write_bytes(key.public.pem)

    def written(text: str) -> Path:
        (tmp_path / "policy.toml").write_text(text)
        return tmp_path / "policy.toml"

    return written


def test_the_default_trusts_the_servers_own_registry_and_what_marketplaces_endorse(write, tmp_path):
    policy = read_policy(write(default_policy()))
    assert [(rule.match, rule.action, rule.threshold) for rule in policy.rules] == [
        ("embedded/**", "keys", 1), ("**", "marketplace", 1)]
    assert policy.rules[0].keys == (tmp_path / "keys/registry.pub",)
    lines = default_policy().splitlines()
    assert [lines[rule.line - 1] for rule in policy.rules] == ["[[rule]]", "[[rule]]"]


def test_everything_a_rule_can_say_is_read(write, tmp_path):
    policy = read_policy(write(HEAD + f"""
[[rule]]
match = "evil.example/**"
action = "reject"
reason = "We had an incident."

[[rule]]  # a comment
match = "ghcr.io/our-*/**/stable"
keys = ["keys/team.pub", "/etc/keys/release.pub"]
threshold = 2
attestations = ["{SLSA}"]

[[rule]]
match = "[::1]:5000/**"
action = "allow"
"""))
    reject, keys, allow = policy.rules
    assert (reject.action, reject.reason, reject.line) == ("reject", "We had an incident.", 4)
    assert keys.keys == (tmp_path / "keys/team.pub", Path("/etc/keys/release.pub"))
    assert (keys.threshold, keys.attestations, keys.number) == (2, (SLSA,), 2)
    assert allow.match == "[::1]:5000/**"
    assert policy.rule_for("[::1]:5000/a/b") == allow
    assert policy.rule_for("ghcr.io/our-team/x/y/stable") == keys
    assert policy.rule_for("ghcr.io/theirs/x/stable") is None
    assert json.dumps([rule.to_dict() for rule in policy.rules])


RULE = HEAD + '[[rule]]\nmatch = "a.b/**"\n'


@pytest.mark.parametrize(("text", "line", "words"), [
    ("", 0, "version is missing"), ("version = 2\n", 1, "version is 2"), ("version = true\n", 1, "version is True"),
    ("version = 1\nrules = []\n", 2, "unknown key 'rules'"),
    (HEAD + "[rule]\nmatch = 'a/**'\n", 3, "not a list of tables"),
    (HEAD + "[[rule]]\naction = 'allow'\n", 3, "match is missing"),
    (RULE, 3, "exactly one of action and keys"),
    (RULE + "action = 'alow'\n", 5, "action is 'alow'"),
    (RULE + "action = 'allow'\nkeys = 'marketplace'\n", 5, "exactly one"),
    (RULE + "keys = 'keys/team.pub'\n", 5, "neither a list"), (RULE + "keys = []\n", 5, "neither a list"),
    (RULE + "keys = ['a.pub', 'a.pub']\n", 5, "there twice"), (RULE + 'keys = ["a\\u0000"]\n', 5, "NUL"),
    (RULE + "keys = ['a.pub']\nthreshold = 2\n", 6, "no bundle could pass"),
    (RULE + "keys = ['a.pub']\n\nthreshold = 0\n", 7, "threshold is 0"),
    (RULE + "keys = ['a.pub']\nthreshold = true\n", 6, "threshold is True"),
    (RULE + "action = 'allow'\nthreshold = 1\n", 6, "no meaning without keys"),
    (RULE + "action = 'allow'\nattestations = []\n", 6, "no meaning without keys"),
    (RULE + "keys = ['a.pub']\nattestations = ['slsa']\n", 6, "predicate types"),
    (RULE + "keys = ['a.pub']\nkey = 'b.pub'\n", 6, "unknown key 'key'"),
    (RULE + "action = 'reject'\nreason = 7\n", 6, "reason is not"),
    (RULE + "action = 'allow'\n\n[[rule]]\nmatch = 'x'\naction = 'allow'\n", 8, "matches no repository"),
    (HEAD + "rule = [{match = 'x', action = 'allow'}]\n", 0, "rule 1"),
], ids=range(23))
def test_what_is_wrong_is_said_with_its_line(write, text, line, words):
    path = write(text)
    with pytest.raises(InvalidInput, match=re.escape(words)) as caught:
        read_policy(path)
    assert caught.value.message.startswith(f"{path}, line {line}: " if line else f"{path}: ")


def test_files_that_are_no_policy_are_refused(write, tmp_path):
    with pytest.raises(NotFound, match="no policy file") as caught:
        read_policy(tmp_path / "missing.toml")
    assert "server start" in caught.value.hint
    with pytest.raises(InvalidInput, match="not TOML.*line 2"):
        read_policy(write("version = 1\n[[rule\n"))
    path = write("")
    for content, words in ((b"\xff", "UTF-8"), (b"#" * (1 << 21), "larger"), (b"a=" + b"[" * 100_000, "not TOML")):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=words):
            read_policy(path)


@pytest.mark.parametrize("glob", ["", "/", "a//b", "/a/b", "a/b/", "GHCR.io/**", "a b/c", "ghcr.io", "*", "a/**b", "a/***",
                                  "oci://ghcr.io/**", "ghcr.io/a:1.0", "ghcr.io/a@sha256:00", "a/?", "a" * 600, "a/ü"])
def test_globs_that_cannot_match_are_refused(glob):
    with pytest.raises(InvalidInput, match="glob"):
        check_glob(glob)


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "a-b"]), min_size=2, max_size=5)
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "a*", "*b", "**", "a*b", "*-*"]), min_size=1, max_size=5)


def slowly(wanted: list[str], found: list[str]) -> bool:
    """What a glob means, said in another way."""
    if not wanted:
        return not found
    if wanted[0] == "**":
        if len(wanted) == 1:
            return bool(found)
        return any(slowly(wanted[1:], found[n:]) for n in range(len(found) + 1))
    if not found:
        return False
    first = re.fullmatch(wanted[0].replace("-", r"\-").replace("*", ".*"), found[0]) is not None
    return first and slowly(wanted[1:], found[1:])


@given(GLOBS, SEGMENTS)
def test_globs_mean_what_they_say(wanted, found):
    assert matches("/".join(wanted), "/".join(found)) == slowly(wanted, found)


@given(SEGMENTS)
def test_a_glob_without_stars_matches_itself_alone(found):
    glob = check_glob("/".join(found))
    assert matches(glob, "/".join(found))
    assert not matches(glob, "/".join([*found, "a"]))
    assert not matches(glob, "/".join(found[:-1]))
    assert matches("**", "/".join(found))
    assert matches(f"{found[0]}/**", "/".join(found))
    assert not matches(f"{'/'.join(found)}/**", "/".join(found))


def test_only_this_server_is_embedded():
    def subject(registry: str, embedded: str = EMBEDDED) -> str:
        return subject_of(Reference(registry, "a/b"), embedded)

    assert subject("127.0.0.1:8765") == subject("localhost:8765") == "embedded/a/b"
    assert subject("127.0.0.1:8766") == "127.0.0.1:8766/a/b"
    assert subject("localhost:8766") == "localhost:8766/a/b"
    assert subject("localhost:8765", "10.0.0.1:8765") == "localhost:8765/a/b"
    assert subject("127.0.0.1:8765", "") == "127.0.0.1:8765/a/b"
    assert subject("embedded") == "embedded:443/a/b"
    assert subject("embedded:8765") == "embedded:8765/a/b"


class World:
    """An artifact in a registry, and decisions about it."""

    def __init__(self, client: RegistryClient, name: str, write) -> None:
        self.client, self.write = client, write
        client.push_blob("team/tool", b"{}", media.EMPTY_DIGEST, media.EMPTY)
        empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
        data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "config": empty,
                               "layers": [empty], "annotations": {"name": name}})
        self.place = Reference(client.registry, "team/tool").with_digest(
            client.push_manifest("team/tool", digest_bytes(data), data, media.MANIFEST))

    def decide(self, rules: str, *, embedded: bool = False, endorsed=()):
        policy = read_policy(self.write(HEAD + rules))
        return decide(policy, self.place, self.place.digest, RepositorySource(self.client, "team/tool"),
                      embedded=self.client.registry if embedded else "", endorsed=[key.public for key in endorsed])


@pytest.fixture
def world(client, request, write) -> World:
    return World(client, request.node.name, write)


KEYS = '[[rule]]\nmatch = "**"\nkeys = ["keys/team.pub", "keys/release.pub"]\n'
MARKET = '[[rule]]\nmatch = "**"\nkeys = "marketplace"\n'
REJECT = '[[rule]]\nmatch = "**"\naction = "reject"\nreason = "No strangers."\n'
ALLOW = '[[rule]]\nmatch = "**/tool"\naction = "allow"\n'


def test_r169_the_first_rule_that_matches_decides(world):
    assert world.decide(ALLOW + REJECT).allowed
    refused = world.decide(REJECT + ALLOW)
    assert not refused.allowed
    assert not refused.overridable
    assert "No strangers." in refused.reason
    assert "--allow-unsigned does not" in refused.hint


def test_r169_what_no_rule_matches_is_refused(world):
    refused = world.decide('[[rule]]\nmatch = "ghcr.io/**"\naction = "allow"\n')
    assert (refused.allowed, refused.rule, refused.overridable) == (False, "", False)
    copied = tomllib.loads(refused.hint.partition("such as:\n")[2])
    assert copied == {"rule": [{"match": f"{world.client.registry}/team/tool", "keys": ["keys/NAME.pub"]}]}


def test_r169_unsigned_is_refused_with_what_to_do(world):
    refused = world.decide(KEYS)
    assert (refused.allowed, refused.overridable) == (False, True)
    assert 'rule 1 ("**", line 3)' in refused.reason
    assert f"fuseml bundle sign {world.place} --key FILE" in refused.hint
    assert "--allow-unsigned" in refused.hint
    ours = world.decide('[[rule]]\nmatch = "embedded/**"\nkeys = ["keys/registry.pub"]\n', embedded=True)
    assert f"Sign it: fuseml bundle sign {world.place}\n" in ours.hint


def test_r169_signed_by_a_key_of_the_rule_is_allowed(world):
    sign(world.client, world.place, TEAM)
    allowed = world.decide(KEYS)
    assert (allowed.allowed, allowed.signers) == (True, (TEAM.fingerprint,))
    assert world.decide('[[rule]]\nmatch = "embedded/**"\nkeys = ["keys/team.pub"]\n', embedded=True).allowed
    assert json.loads(json.dumps(allowed.to_dict()))["signers"] == [TEAM.fingerprint]


def test_r169_a_signature_of_somebody_else_cannot_be_waved_through(world):
    sign(world.client, world.place, OURS)
    refused = world.decide(KEYS)
    assert (refused.allowed, refused.overridable, refused.signers) == (False, False, ())
    assert "not by a key that" in refused.reason
    assert "fuseml key import" in refused.hint
    assert "\n    [[rule]]\n    match = " in refused.hint


def test_r169_a_threshold_needs_that_many_keys(world):
    sign(world.client, world.place, TEAM)
    refused = world.decide(KEYS + "threshold = 2\n")
    assert (refused.allowed, refused.overridable, refused.signers) == (False, False, (TEAM.fingerprint,))
    sign(world.client, world.place, RELEASE, ["legacy"])
    assert set(world.decide(KEYS + "threshold = 2\n").signers) == {TEAM.fingerprint, RELEASE.fingerprint}


def test_r169_marketplaces_endorse_keys(world):
    refused = world.decide(MARKET)
    assert (refused.allowed, refused.overridable) == (False, True)
    assert "fuseml marketplace add NAME REFERENCE --key FILE\n" in refused.hint
    sign(world.client, world.place, TEAM)
    assert world.decide(MARKET, endorsed=[TEAM]).allowed
    assert not world.decide(MARKET, endorsed=[RELEASE]).allowed
    assert not world.decide(MARKET, endorsed=[RELEASE]).overridable
    assert not world.decide(MARKET + "threshold = 2\n", endorsed=[TEAM, TEAM]).allowed
    both = EndorsedKeys([TEAM.public, RELEASE.public], threshold=2)  # what the catalog wants counts, too
    policy, source = read_policy(world.write(HEAD + MARKET)), RepositorySource(world.client, "team/tool")
    made = decide(policy, world.place, world.place.digest, source, embedded="", endorsed=both)
    assert "2 different keys" in made.reason


def test_wanted_attestations_must_be_signed_by_a_key_of_the_rule(world):
    rule = f'{KEYS}attestations = ["{SLSA}"]\n'
    sign(world.client, world.place, TEAM)
    attest(world.client, world.place, SLSA, {})
    attest(world.client, world.place, SLSA, {}, OURS)
    refused = world.decide(rule)
    assert (refused.allowed, refused.overridable, refused.signers) == (False, False, (TEAM.fingerprint,))
    assert f"--type {SLSA} --key" in refused.hint
    attest(world.client, world.place, SLSA, {}, RELEASE)
    assert world.decide(rule).attestations == (SLSA,)


def test_a_missing_key_refuses(world):
    sign(world.client, world.place, TEAM)
    refused = world.decide('[[rule]]\nmatch = "**"\nkeys = ["keys/team.pub", "keys/gone.pub"]\n')
    assert (refused.allowed, refused.overridable) == (False, False)
    assert "keys/gone.pub" in refused.reason


def test_a_registry_that_does_not_answer_refuses(write, evil):
    policy = read_policy(write(HEAD + KEYS))
    with RegistryClient(evil.host) as client:
        place = Reference(evil.host, "team/tool")
        refused = decide(policy, place, "sha256:" + "0" * 64, RepositorySource(client, "team/tool"), embedded="")
    assert not refused.allowed
