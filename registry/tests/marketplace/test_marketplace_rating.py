"""The level of a version is computed of what the marketplace sees, not of what its author sends."""

from __future__ import annotations

import pytest

from fuseml_oci.bundles.scorecards import PREDICATE
from fuseml_oci.digests import digest_bytes
from fuseml_oci.signing import keys
from fuseml_oci.signing.sign import attest, sign

WHEEL = b"a wheel, for all that a registry knows"
SBOM = {"bomFormat": "CycloneDX", "components": [{"name": "numpy", "version": "2.4.0"}]}


def card(level, wheel=WHEEL):
    return {"type": PREDICATE, "level": level, "plugins": [{"plugin": "a:A", "passed": 60, "hosts": ["subprocess"]}],
            "wheels": {"thing-1.0-py3-none-any.whl": digest_bytes(wheel)}, "checks": []}


def rating(market, name):
    about = market.json(f"/packages/rated/{name}")
    return about["rating"]["level"], [entry["title"] for entry in about["rating"]["criteria"] if not entry["met"]]


def test_r134_each_step_needs_what_the_marketplace_can_see(market, key):
    reference = market.push_raw("rated/thing", {"name": "thing"}, wheel=WHEEL)
    level, missing = rating(market, "thing")
    assert (level, len(missing)) == ("none", 9)

    attest(market.client, reference, PREDICATE, card("platinum"))
    assert rating(market, "thing")[0] == "bronze"
    attest(market.client, reference, PREDICATE, card("platinum"), key)
    assert rating(market, "thing")[0] == "bronze"
    sign(market.client, reference, key)
    assert rating(market, "thing")[0] == "silver"
    attest(market.client, reference, "https://cyclonedx.org/bom", SBOM, keys.generate())
    assert rating(market, "thing")[0] == "silver"
    attest(market.client, reference, "https://cyclonedx.org/bom", SBOM, key)
    assert rating(market, "thing") == ("gold", ["A known key signed where it comes from"])
    attest(market.client, reference, "https://slsa.dev/provenance/v1", {"builder": {"id": "https://ci.example/1"}}, key)
    assert rating(market, "thing") == ("platinum", [])
    page = market.page("/packages/rated/thing")
    assert "Level: platinum" in page
    assert "A known key signed a bill of materials" in page


@pytest.mark.parametrize(("name", "sent", "level"), [
    ("other", card("platinum", b"another wheel"), "none"), ("low", card("bronze"), "bronze"),
    ("odd", card("diamond"), "none"), ("none", {**card("gold"), "wheels": []}, "none")])
def test_r134_a_scorecard_counts_for_its_wheels_and_no_higher_than_it_says(market, key, name, sent, level):
    reference = market.push_raw(f"rated/{name}", {"name": name}, wheel=WHEEL)
    sign(market.client, reference, key)
    attest(market.client, reference, "https://cyclonedx.org/bom", SBOM, key)
    attest(market.client, reference, PREDICATE, sent, key)
    assert rating(market, name)[0] == level
    if name == "other":
        assert "not about this bundle" in market.page("/packages/rated/other")
