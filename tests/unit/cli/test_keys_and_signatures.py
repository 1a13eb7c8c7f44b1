"""`fuseml key`, `bundle verify` of files, `policy`: what needs no server, or only its answer."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import write_layout
from fuseml_oci.signing import bundle, generate, load_private
from fuseml_oci.signing.payloads import SIGNATURE, make_statement

KEY, STRANGER = generate(), generate()


class Typed(io.TextIOWrapper):
    """Standard input with something in it, on a terminal or not."""

    def __init__(self, text: str, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(text.encode()))
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def quiet(settings, monkeypatch):
    """No password comes from the environment of whoever runs the tests."""
    for name in ("FUSEML_KEY_PASSWORD", "COSIGN_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", Typed("", terminal=False))
    return settings


@pytest.mark.parametrize("way", ["FUSEML_KEY_PASSWORD", "COSIGN_PASSWORD", "stdin"])
def test_a_password_comes_from_the_environment_or_standard_input(run, settings, monkeypatch, way):
    if way == "stdin":
        monkeypatch.setattr(sys, "stdin", Typed("pass word\nignored\n", terminal=False))
    else:
        monkeypatch.setenv(way, "pass word")
    code, out, _ = run("key", "generate", "team", "-o", "json", *(["--password-stdin"] if way == "stdin" else []))
    made = json.loads(out)
    assert code == 0
    path = Path(made["private"])
    assert path == settings.path("keys", "team.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_private(path, b"pass word").fingerprint == made["fingerprint"]


def test_our_variable_wins_over_cosigns(run, settings, monkeypatch):
    monkeypatch.setenv("FUSEML_KEY_PASSWORD", "ours")
    monkeypatch.setenv("COSIGN_PASSWORD", "theirs")
    assert run("key", "generate", "team")[0] == 0
    assert load_private(settings.path("keys", "team.key"), b"ours")


def test_somebody_is_asked_twice_and_nothing_is_echoed(run, settings, monkeypatch):
    asked = []

    def hidden(question: str) -> str:
        asked.append(question)
        return "typed"

    monkeypatch.setattr(sys, "stdin", Typed("", terminal=True))
    monkeypatch.setattr("click.termui.hidden_prompt_func", hidden)
    code, out, err = run("key", "generate", "team")
    assert code == 0
    assert len(asked) == 2
    assert "typed" not in out + err
    assert load_private(settings.path("keys", "team.key"), b"typed")


@pytest.mark.parametrize(("stdin", "words"), [("", "there is nobody to ask"), (None, "empty password")])
def test_without_a_password_no_key_is_made(run, settings, monkeypatch, stdin, words):
    if stdin is None:
        monkeypatch.setenv("FUSEML_KEY_PASSWORD", "")
    code, _, err = run("key", "generate", "team")
    assert code == 2
    assert words in err
    assert not settings.path("keys", "team.key").exists()


def test_an_endless_password_is_refused(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Typed("x" * 10_000, terminal=False))
    code, _, err = run("key", "generate", "team", "--password-stdin")
    assert code == 2
    assert "longer than" in err


def test_keys_are_listed_and_shown(run, tmp_path):
    assert "fuseml key generate NAME" in "".join(run("key", "list")[1:])
    (tmp_path / "theirs.pub").write_bytes(KEY.public.pem)
    assert run("key", "import", str(tmp_path / "theirs.pub"), "partner")[0] == 0
    (item,) = json.loads(run("key", "list", "--output", "json")[1])
    assert (item["name"], item["kind"], item["fingerprint"]) == ("partner", "verify", KEY.fingerprint)
    code, out, _ = run("key", "show", "partner")
    assert code == 0
    assert KEY.fingerprint in out
    assert KEY.public.pem.decode().strip() in out
    assert json.loads(run("key", "show", str(tmp_path / "theirs.pub"), "-o", "json")[1])["pem"] == KEY.public.pem.decode()
    code, _, err = run("key", "import", str(tmp_path / "theirs.pub"), "partner")
    assert (code, "never overwritten" in err) == (2, True)
    assert run("key", "show", "nobody")[0] == 3


def test_the_servers_own_key_is_not_made_by_people(run, settings, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSEML_KEY_PASSWORD", "pass word")
    code, _, err = run("key", "generate", "registry")
    assert (code, "belongs to" in err) == (2, True)
    assert not settings.path("keys", "registry.key").exists()
    assert run("key", "generate", "registry", "--directory", str(tmp_path))[0] == 0


@pytest.fixture(params=["layout", "layout.tar"])
def signed(request, tmp_path) -> Path:
    """An image layout with a manifest that KEY has signed; STRANGER has not."""
    (tmp_path / "ours.pub").write_bytes(KEY.public.pem)
    (tmp_path / "stranger.pub").write_bytes(STRANGER.public.pem)
    manifest = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b", "layers": []})
    subject = descriptor_of(manifest, media.MANIFEST)
    content = bundle.make(make_statement(subject.digest, SIGNATURE, {}), KEY)
    referrer = bundle.referrer(content, SIGNATURE, subject, "2026-01-01T00:00:00Z")
    write_layout(tmp_path / request.param, [subject, descriptor_of(referrer, media.MANIFEST)],
                 {digest_bytes(data): data for data in (manifest, content, referrer)})
    return tmp_path / request.param


def test_a_file_is_verified_with_keys(run, signed):
    code, out, _ = run("bundle", "verify", str(signed), "--key", str(signed.parent / "ours.pub"), "-o", "json")
    found = json.loads(out)
    assert (code, found["verified"], [s["layout"] for s in found["signatures"]]) == (0, True, ["bundle"])
    code, out, _ = run("bundle", "verify", str(signed), "--key", str(signed.parent / "ours.pub"),
                       "--key", str(signed.parent / "stranger.pub"), "-o", "json")
    assert (code, json.loads(out)["missing"]) == (5, [STRANGER.fingerprint])
    code, out, _ = run("bundle", "verify", str(signed), "--key", str(signed.parent / "stranger.pub"))
    assert code == 5
    assert "not by any of the wanted keys" in out
    code, _, err = run("bundle", "verify", str(signed))
    assert (code, "--key FILE" in err) == (2, True)


DECISION = {"reference": "oci://h.example/a/tool:1.0.0@sha256:00", "name": "tool", "version": "1.0.0", "digest": "sha256:00",
            "allowed": False, "rule": 'rule 1 ("**", line 3)', "reason": "it is not signed", "hint": "Sign it.\nOr not.",
            "signers": [], "attestations": [], "overridable": True}


@pytest.mark.parametrize("command", [("policy", "check"), ("bundle", "verify")])
def test_the_decision_is_explained_and_is_the_exit_code(run, api, command):
    api.on("GET /policy/decision", DECISION)
    code, out, _ = run(*command, "tool")
    assert code == 5
    for words in ("tool 1.0.0", 'rule 1 ("**", line 3)', "it is not signed", "Or not.", "refused, because"):
        assert words in out
    assert json.loads(run(*command, "tool", "-o", "json")[1]) == DECISION
    api.on("GET /policy/decision", {**DECISION, "allowed": True, "hint": ""})
    assert run(*command, "tool")[0] == 0


def test_rules_are_shown_with_what_is_wrong_with_their_keys(run, api):
    rule = {"number": 1, "line": 3, "match": "a/**", "action": "keys", "threshold": 1, "attestations": ["https://a/b"],
            "reason": "", "keys": [{"path": "keys/a.pub", "fingerprint": "sha256:aa", "error": ""},
                                   {"path": "keys/b.pub", "fingerprint": "", "error": "there is no key file"}]}
    api.on("GET /policy", {"path": "/home/policy.toml", "rules": [rule, {**rule, "action": "reject", "keys": [],
                                                                         "reason": "No strangers."}]})
    code, out, _ = run("policy", "show")
    assert code == 0
    for words in ("/home/policy.toml", "1 of 2 keys", "sha256:aa", "there is no key file", "nothing: rejected", "No strangers."):
        assert words in out


@pytest.mark.parametrize(("arguments", "words"), [
    (("--type", "sbom"), "no predicate type"), ((), "--type or --artifact-type"),
    (("--artifact-type", "text"), "no media type"), (("--artifact-type", "a/b", "--key", "x"), "goes with neither")])
def test_attaching_says_what_is_missing(run, tmp_path, monkeypatch, arguments, words):
    from fuseml_oci.reference import Reference

    monkeypatch.setattr("fuseml_core.cli.bundle_attach.pinned",
                        lambda text: (Reference("h.example", "a/b", digest="sha256:" + "0" * 64), None))
    (tmp_path / "x.json").write_text("{}")
    code, _, err = run("bundle", "attach", "oci://h.example/a/b", str(tmp_path / "x.json"), *arguments)
    assert code == 2
    assert words in err


def test_a_statement_about_something_else_is_not_attached(run, tmp_path, monkeypatch):
    from fuseml_oci.reference import Reference

    monkeypatch.setattr("fuseml_core.cli.bundle_attach.pinned",
                        lambda text: (Reference("h.example", "a/b", digest="sha256:" + "0" * 64), None))
    (tmp_path / "x.json").write_bytes(make_statement("sha256:" + "1" * 64, "https://a/b", {}))
    code, _, err = run("bundle", "attach", "oci://h.example/a/b", str(tmp_path / "x.json"))
    assert code == 2
    assert "a statement about sha256:1111" in err
