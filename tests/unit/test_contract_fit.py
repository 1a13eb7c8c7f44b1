"""What the SDK in a bundle tells before anything is fetched."""

from __future__ import annotations

import pytest

from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.contract_fit import foreseen
from fuseml_sdk import __version__, negotiation


def descriptor(sdk, *, field="wheels", components=({"family": "store", "name": "x"},)):
    return {"manifest": {"components": list(components), "environment": {
        field: ["other-1.0-py3-none-any.whl", f"fuseml_sdk-{sdk}-py3-none-any.whl"]}}}


@pytest.mark.parametrize("found", [
    {}, {"manifest": {"environment": None}}, descriptor(__version__), descriptor(__version__, field="vendored"),
    descriptor("99.0.0", components=()), {"manifest": {"components": [{}], "environment": {"wheels": ["x.whl"]}}}])
def test_nothing_is_said_of_what_fits_or_has_no_plugin(found):
    assert foreseen("shelf", "1.0.0", found) == []


def test_r133_a_newer_sdk_is_said():
    (said,) = foreseen("shelf", "1.0.0", descriptor("99.0.0"))
    assert said.startswith(f"shelf 1.0.0 was built with SDK 99.0.0, which is newer than {__version__}")


def test_r133_too_old_is_refused_with_both_sides_and_the_remedy(monkeypatch):
    monkeypatch.setattr(negotiation, "PROTOCOLS", (2,))
    monkeypatch.setattr(negotiation, "__version__", "2.0.0")
    with pytest.raises(Invalid) as refused:
        foreseen("shelf", "1.0.0", descriptor("0.1.0"))
    assert refused.value.message == ("shelf 1.0.0 speaks protocol 1 (SDK 0.1.0), this server speaks protocol 2 (SDK 2.0.0): "
                                     "the extension is too old for this server")
    assert "fuseml extension upgrade" in refused.value.hint
