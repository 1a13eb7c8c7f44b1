"""Components that somebody else runs, in the manifest: an address in place of a plugin, with settings filled in."""

from __future__ import annotations

import pytest

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import parse_manifest

HEAD = '''
name = "far"
version = "1.0.0"
summary = "An agent elsewhere."
[config_schema.properties.url]
type = "string"
[config_schema.properties.token]
type = "string"
writeOnly = true
'''


def _parse(**fields):
    lines = "\n".join(f'{key} = "{value}"' for key, value in fields.items())
    return parse_manifest(f'{HEAD}\n[[components]]\nfamily = "agent"\nname = "a"\n{lines}\n').components[0]


@pytest.mark.parametrize("address", ["unix:/run/agent.sock", "http://127.0.0.1:8080", "https://agents.example.org/fuseml",
                                     "{url}", "https://{url}:8443"])
def test_r164_a_component_may_be_at_an_address(address):
    component = _parse(address=address)
    assert (component.address, component.plugin) == (address, "")
    assert component.settings() == (["url"] if "{" in address else [])


def test_the_token_is_a_setting_and_a_secret():
    assert _parse(address="{url}", token="{token}").settings() == ["url", "token"]


@pytest.mark.parametrize(("fields", "words"), [
    ({}, "needs either `plugin`"),
    ({"plugin": "far:plugin", "address": "{url}"}, "needs either `plugin`"),
    ({"plugin": "far:plugin", "token": "{token}"}, "no `address` to send it to"),
    ({"address": "{other}"}, "uses the setting 'other', which config_schema does not declare"),
    ({"address": "{url}", "token": "{url}"}, "mark it as a secret with `writeOnly = true`"),
    ({"address": "{url}", "token": "s3cr3t"}, "components.0.token"),
    ({"address": "ftp://example.org"}, "components.0.address"),
    ({"address": "http://ada:pw@example.org"}, "components.0.address"),
    ({"address": "unix:relative"}, "components.0.address"),
    ({"plugin": "no address"}, "components.0.plugin"),
])
def test_what_does_not_fit_is_refused_with_the_reason(fields, words):
    with pytest.raises(InvalidInput) as caught:
        _parse(**fields)
    assert words in str(caught.value)
