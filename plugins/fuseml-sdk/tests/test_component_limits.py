"""Limits that a manifest states for a component, and amounts of bytes (R133)."""

from __future__ import annotations

import pytest

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import parse_manifest, show_limit
from fuseml_sdk.quantities import parse_bytes, show_bytes

MANIFEST = '''
name = "lights"
version = "1.0.0"
summary = "Lamps."

[[components]]
family = "store"
name = "lamp"
{place}
'''


def component(limits: str, place: str = 'plugin = "lights:store"'):
    return parse_manifest(MANIFEST.format(place=place) + limits).components[0]


@pytest.mark.parametrize(("text", "amount", "shown"), [
    ("0", 0, "0"), ("1048576", 1 << 20, "1Mi"), ("512Mi", 512 << 20, "512Mi"), ("1.5Gi", 3 << 29, "1536Mi"),
    ("2G", 2 * 10**9, "1953125Ki"), ("0.5Ki", 512, "512"), ("1.0001k", 1000, "1000"), ("3Ti", 3 << 40, "3Ti"),
])
def test_amounts_of_bytes_are_read_and_shown_exactly(text, amount, shown):
    assert parse_bytes(text) == amount
    assert show_bytes(amount) == shown
    assert parse_bytes(shown) == amount


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1gi", "-1", "1Gi\n", "1e3", ".5Gi", "1.Gi", "١Gi"])
def test_what_is_no_amount_of_bytes_is_refused(text):
    with pytest.raises(InvalidInput, match="is not an amount of bytes"):
        parse_bytes(text)


def test_r133_a_component_states_its_limits_or_says_nothing():
    stated = component('limits = { memory = "512Mi", open_files = 256, processes = 64, file_size = "1Gi" }')
    assert stated.limits.wanted() == {"memory": 512 << 20, "open_files": 256, "processes": 64, "file_size": 1 << 30}
    assert [show_limit(*pair) for pair in stated.limits.wanted().items()] == ["512Mi", "256", "64", "1Gi"]
    silent = component("")
    assert silent.limits.wanted() == {}
    assert "limits" not in silent.model_dump(mode="json", exclude_defaults=True), "digests of bundles stay as they are"


@pytest.mark.parametrize(("limits", "place", "why"), [
    ('{ memory = "lots" }', None, "'lots' is not an amount of bytes"),
    ('{ memory = "1Mi" }', None, "memory is less than 64Mi"),
    ("{ open_files = 3 }", None, "open_files is less than 64"),
    ("{ cpu = 1 }", None, "there is no such field"),
    ('{ memory = "1Gi" }', 'address = "http://there:1"', "somebody else runs it"),
])
def test_r133_limits_that_make_no_sense_are_refused_with_the_reason(limits, place, why):
    with pytest.raises(InvalidInput, match=why):
        component(f"limits = {limits}", place or 'plugin = "lights:store"')
