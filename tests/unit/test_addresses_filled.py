"""Settings in the place of `{setting}` in the address and the token of a component."""

from __future__ import annotations

import pytest

from fuseml_core.adapters.extensions.components import filled
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension

EXTENSION = InstalledExtension(
    name="far", version="1.0.0", digest="sha256:0", reference="", store="", state=ExtensionState.ACTIVE, installed_at=0.0,
    descriptor={"manifest": {"config_schema": {"properties": {
        "host": {"type": "string", "default": "127.0.0.1"}, "port": {"type": "integer"}, "token": True}}}})


@pytest.mark.parametrize(("text", "config", "becomes"), [
    ("unix:/run/a.sock", {}, "unix:/run/a.sock"),
    ("http://{host}:{port}", {"port": 80}, "http://127.0.0.1:80"),
    ("http://{host}:{port}", {"port": 80, "host": "::1"}, "http://::1:80"),
    ("http://{host}:{port}", {"port": None}, "http://127.0.0.1:{port}"),
    ("{port}", {"port": "{host}"}, "{host}"),
])
def test_what_is_set_or_declared_is_filled_in_once(text, config, becomes):
    assert filled(text, EXTENSION, config) == becomes


def test_a_token_that_nobody_set_is_none():
    assert filled("{token}", EXTENSION, {}, missing="") == ""
    assert filled("{token}", EXTENSION, {"token": "abc"}, missing="") == "abc"
