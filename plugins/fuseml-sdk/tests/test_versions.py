from __future__ import annotations

import pytest

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.versions import parse_range, parse_version


def test_versions_are_ordered_as_semver_says():
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
               "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "2.0.0"]
    versions = [parse_version(text) for text in ordered]
    assert sorted(set(versions)) == versions
    assert [str(v) for v in versions] == ordered


@pytest.mark.parametrize(("text", "yes", "no"), [
    (">=0.1,<1", ["0.1.0", "0.9.9", "0.1.0-dev.0123abcd4567"], ["0.0.9", "1.0.0", "1.0.0-rc.1"]),
    ("*", ["0.0.1", "7.0.0-dev.1"], []),
    ("1.2.3", ["1.2.3"], ["1.2.4"]),
    ("~=1.4", ["1.4.0", "1.9.9"], ["2.0.0", "1.3.9"]),
    ("~=1.4.2", ["1.4.2", "1.4.9"], ["1.5.0"]),
    (">=1.0.0-rc.2", ["1.0.0-rc.2", "1.0.0"], ["1.0.0-rc.1"]),
    ("!=1.1, >1", ["1.0.1", "1.2"], ["1.1.0", "1.0.0"]),
])
def test_a_range_accepts_what_it_says(text, yes, no):
    accepted = parse_range(text)
    assert [v for v in yes if parse_version(v) not in accepted] == []
    assert [v for v in no if parse_version(v) in accepted] == []


@pytest.mark.parametrize("text", [">=x", "^1.0", ">=1,,<2", "1.2.3.4", "latest"])
def test_a_wrong_range_names_the_part(text):
    with pytest.raises(InvalidInput, match="range"):
        parse_range(text)
