"""Bundles of extensions whose components somebody else runs: no environment, no wheels, no SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseml_oci.bundles import build
from fuseml_sdk.errors import InvalidInput

EXAMPLE = Path(__file__).parents[3] / "examples/node-agent"
MANIFEST = 'name = "far"\nversion = "1.0.0"\nsummary = "An agent elsewhere."\n[[components]]\nfamily = "agent"\nname = "a"\n'


def test_r170_an_extension_in_another_language_is_a_bundle_without_an_environment():
    bundle = build(EXAMPLE)
    (component,) = bundle.descriptor.manifest.components
    assert (component.plugin, component.address, component.token) == ("", "{url}", "{token}")
    assert bundle.descriptor.manifest.environment is None
    assert [r.name for r in bundle.descriptor.runnables] == ["count-words"]
    assert build(EXAMPLE).digest == bundle.digest


def test_fields_that_are_not_used_are_not_written(tmp_path):
    """A bundle without addresses has the bytes that it had before there were any: older servers read it."""
    (tmp_path / "extension.toml").write_text(MANIFEST + 'address = "unix:/run/a.sock"\n')
    text = build(tmp_path).descriptor.model_dump_json(exclude_defaults=True)
    assert '"address":"unix:/run/a.sock"' in text
    assert '"plugin"' not in text
    assert '"token"' not in text


def test_a_plugin_still_needs_an_environment(tmp_path):
    (tmp_path / "extension.toml").write_text(MANIFEST + 'plugin = "far:plugin"\n')
    with pytest.raises(InvalidInput, match="needs an \\[environment\\]"):
        build(tmp_path)
