"""What plugins speak, held against what the server speaks."""

from __future__ import annotations

import copy

import pytest

from fuseml_core.domain.errors import NotFound
from fuseml_core.service.contracts import Contracts, Speaker
from fuseml_sdk.compatibility import current


def speaker(family="store", contract=None, agreement=None, extension="shelf"):
    return Speaker(extension, "1.0.0", family, "main", "subprocess", "idle", agreement, contract)


def changed(version="0.0.9", *, protocol=1):
    """A contract in which an optional argument of a store hook and a hook of agents are not there yet."""
    other = {**copy.deepcopy(current()), "sdk_version": version, "digest": "sha256:other", "protocol": protocol}
    other["hooks"]["store_files"]["arguments"]["properties"]["depth"] = {"type": "integer", "default": 1}
    del other["hooks"]["agent_logs"]
    return other


def compare(*speakers, extension=""):
    return Contracts(lambda: speakers).compare(extension)


def test_the_same_contract_has_no_changes():
    (found,) = compare(speaker(contract=current()))
    assert (found["verdict"], found["changes"], found["started"]) == ("compatible", [], False)
    assert found["agreement"]["state"] == "same"
    assert found["component"] == "store/main"


def test_only_what_concerns_the_family_is_told():
    store, agent = compare(speaker(contract=changed()), speaker("agent", contract=changed()))
    assert [change["place"] for change in store["changes"]] == ["store_files(depth)"]
    assert [change["place"] for change in agent["changes"]] == ["agent_logs"]


def test_the_earlier_contract_is_the_old_one_whoever_speaks_it():
    """What an earlier plugin does not have was added; what a later plugin does not have was removed."""
    earlier, later = compare(speaker("agent", contract=changed("0.0.9")), speaker("agent", contract=changed("9.0.0")))
    assert [change["what"] for change in earlier["changes"]] == ["added, required"]
    assert [change["what"] for change in later["changes"]] == ["removed"]
    assert (earlier["agreement"]["state"], later["agreement"]["state"]) == ("older", "newer")


def test_r133_too_old_is_seen_before_anything_is_started():
    (found,) = compare(speaker(contract=changed(protocol=0)))
    assert (found["agreement"]["state"], found["agreement"]["accepted"]) == ("too-old", False)
    assert found["agreement"]["reason"].startswith("extension shelf 1.0.0 (store main) speaks protocol 0")
    assert found["verdict"] == "incompatible"


def test_what_its_process_said_counts_more_than_its_environment():
    (found,) = compare(speaker(contract=changed(), agreement={"state": "same", "accepted": True}))
    assert (found["started"], found["agreement"]) == (True, {"state": "same", "accepted": True})


def test_of_a_plugin_by_address_nothing_is_known_before_it_was_called():
    (found,) = compare(speaker())
    assert (found["agreement"], found["changes"], found["verdict"]) == (None, [], "compatible")


def test_one_extension_can_be_asked_for():
    both = (speaker(contract=current()), speaker(contract=current(), extension="other"))
    assert [each["extension"] for each in compare(*both, extension="other")] == ["other"]
    with pytest.raises(NotFound, match="'absent'"):
        compare(*both, extension="absent")


def test_the_servers_contract_is_whole():
    assert Contracts(list).ours().keys() == {"protocol", "sdk_version", "digest", "hooks", "errors", "formats"}
