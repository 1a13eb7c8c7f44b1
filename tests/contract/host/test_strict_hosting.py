"""What strict hosting is for: it finds plugins that rely on sharing objects with the server."""

from __future__ import annotations

import pytest

from fuseml_core.host.in_process import STRICT_VARIABLE
from fuseml_sdk.types import RegisterRequest


@pytest.mark.parametrize("strict", [False, True])
def test_strict_hosting_hands_out_copies(host, component, monkeypatch, strict):
    if strict:
        monkeypatch.setenv(STRICT_VARIABLE, "1")
    made = component("store", "in-process")
    host.add(made)
    labels = {"tuple": "x"}
    request = RegisterRequest(kind="model", project="p", name="n", digest="sha256:1", labels=labels,
                              metadata={"pair": (1, 2)})
    answer = host.store(made.id).register(request)
    assert (answer.metadata["pair"] == [1, 2]) is strict
