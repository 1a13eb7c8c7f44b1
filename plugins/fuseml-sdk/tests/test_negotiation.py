"""Plugins of earlier and later contracts: what is agreed, what is refused, and what people are told."""

from __future__ import annotations

import pytest

from fuseml_sdk import __version__, contract, hookimpl, loading, negotiation
from fuseml_sdk.compatibility import documents
from fuseml_sdk.errors import Permanent
from fuseml_sdk.hookspecs import REQUIRED
from fuseml_sdk.negotiation import Side, negotiate

OURS = Side((5,), "sha256:ours", "2.1.0")
STORE = ["store_describe", "store_get", "store_locate"]


def description(protocols, version="2.1.0", digest="sha256:theirs", hooks=tuple(STORE)):
    return {"protocols": protocols, "contract_digest": digest, "sdk_version": version,
            "hooks": {name: {"idempotent": True} for name in hooks}}


def test_r133_the_plugin_of_today_speaks_the_same_contract():
    said = {"protocols": list(negotiation.PROTOCOLS), "contract_digest": contract.frozen()["digest"],
            "sdk_version": __version__, "hooks": STORE}
    agreement = negotiate(said, family="store")
    assert (agreement.state, agreement.accepted, agreement.fix) == ("same", True, "")
    assert agreement.hooks == tuple(STORE)


@pytest.mark.parametrize(("protocols", "state", "spoken"), [
    ([4], "too-old", None), ([1, 4], "too-old", None), ([6], "too-new", None), ([6, 7], "too-new", None),
    ([4, 5], "different", 5), ([5, 6], "different", 5), ([4, 6], "too-new", None),
    ([], "unclear", None), (None, "unclear", None), ("5", "unclear", None), (["5", True, 5.0], "unclear", None)])
def test_r133_one_protocol_before_and_after_ours(protocols, state, spoken):
    agreement = negotiate(description(protocols), ours=OURS)
    assert (agreement.state, agreement.protocol) == (state, spoken)
    assert agreement.accepted == (spoken is not None)


def test_the_highest_common_protocol_is_spoken():
    assert negotiate(description([3, 4, 5]), ours=Side((5, 4), "sha256:ours", "2.1.0")).protocol == 5
    assert negotiate(description([3, 4]), ours=Side((5, 4), "sha256:ours", "2.1.0")).protocol == 4


@pytest.mark.parametrize(("version", "state"), [
    ("2.0.9", "older"), ("2.1.0", "different"), ("2.1.1", "newer"), ("10.0", "newer"), ("2.1.0.dev3", "different"),
    ("", "different"), ("unknown", "different")])
def test_another_contract_of_the_same_protocol_works(version, state):
    agreement = negotiate(description([5], version), ours=OURS)
    assert (agreement.state, agreement.accepted) == (state, True)


def test_a_program_without_the_sdk_need_not_say_its_contract():
    agreement = negotiate({"protocols": [5], "hooks": {"store_get": {}}}, title="the shelf", ours=OURS)
    assert agreement.accepted
    assert agreement.state == "different"
    assert agreement.reason.startswith("the shelf speaks protocol 5 and does not say with which contract")


def test_a_refusal_names_both_sides_and_what_to_do():
    old = negotiate(description([4], "1.9.0"), title="extension foo 1.0 (store foo)", ours=OURS).refusal()
    assert isinstance(old, Permanent)
    assert old.message == ("extension foo 1.0 (store foo) speaks protocol 4 (SDK 1.9.0), this server speaks protocol 5 "
                           "(SDK 2.1.0): the extension is too old for this server")
    assert "fuseml extension upgrade" in old.hint
    assert old.details["agreement"]["theirs"]["digest"] == "sha256:theirs"
    new = negotiate(description([6, 7], "3.0.0"), ours=OURS)
    assert "protocols 6, 7" in new.reason
    assert "Upgrade FuseML to a version that speaks protocol 6" in new.fix


def test_hooks_that_only_one_side_has_are_named():
    agreement = negotiate(description([5], "3.0.0", hooks=["store_describe", "store_get", "store_dance"]), ours=OURS)
    assert agreement.hooks == ("store_describe", "store_get")
    assert agreement.unknown == ("store_dance",)
    assert agreement.missing == ("store_locate",)
    assert "never calls its store_dance" in agreement.reason
    assert "does not implement store_locate" in agreement.reason
    assert agreement.fix


def test_the_family_of_the_component_decides_what_is_missing():
    agreement = negotiate(description([5], hooks=[]), family="builder", ours=OURS)
    assert set(agreement.missing) == REQUIRED["builder"]


@pytest.mark.parametrize("said", [
    {}, {"protocols": [5], "hooks": 7, "deprecations": "x", "sdk_version": 3, "contract_digest": []},
    {"protocols": [5], "hooks": [1, None], "deprecations": [1, {"text": ""}, {}]}])
def test_odd_descriptions_are_read_without_falling_over(said):
    agreement = negotiate(said, ours=OURS)
    assert agreement.deprecations == ()
    assert agreement.as_dict()["reason"]


def test_what_the_plugin_uses_and_goes_away_is_told():
    said = {**description([5], digest="sha256:ours"), "deprecations": [{"text": "the hook `a` is deprecated"}]}
    agreement = negotiate(said, ours=OURS)
    assert agreement.deprecations == ("the hook `a` is deprecated",)
    assert "going to be removed" in agreement.reason


def test_a_plugin_in_the_same_process_agrees_with_itself():
    class Plugin:
        @hookimpl
        def builder_describe(self):
            return None

    agreement = negotiation.own(loading.manager_for(Plugin()), ("a notice",), family="builder")
    assert agreement.state == "same"
    assert agreement.hooks == ("builder_describe",)
    assert set(agreement.missing) == {"builder_detect", "builder_build"}
    assert agreement.deprecations == ("a notice",)


@pytest.mark.parametrize(("version", "state"), [
    ("2.1.0", "same"), ("1.0.0", "too-old"), ("1.9.3", "too-old"), ("0.3.0", "too-old"), ("2.0.0", "older"),
    ("2.0.7", "older"), ("2.2.0", "newer"), ("3.0.0", "newer")])
def test_r133_the_version_of_the_sdk_tells_what_to_expect(version, state, tmp_path, monkeypatch):
    for release, protocol in (("1.0.0", 4), ("2.0.0", 5)):
        (tmp_path / f"{release}.json").write_text(f'{{"protocol": {protocol}, "digest": "sha256:{release}"}}')
    monkeypatch.setattr(documents, "RELEASED", tmp_path)
    agreement = negotiation.foresee(version, title="extension foo", ours=OURS)
    assert agreement.state == state
    assert agreement.accepted == (state != "too-old")


def test_every_required_hook_exists():
    for family, hooks in REQUIRED.items():
        assert all(contract.operations()[hook].family == family for hook in hooks)
