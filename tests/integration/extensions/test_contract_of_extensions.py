"""Extensions of another contract are refused before they are put in force, and what runs goes on."""

from __future__ import annotations

import pytest

from fuseml_core.adapters.contracts import speakers
from fuseml_core.domain.errors import Failed, Invalid
from fuseml_core.service.contracts import Contracts
from fuseml_sdk import negotiation


def test_r133_extensions_of_another_contract_do_not_get_in(world, tmp_path, lock, monkeypatch):
    """One after the other: it fits; its process is too old; it is too old by the SDK that it brings."""
    world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    (found,) = Contracts(lambda: speakers(world.host)).compare("greeter")
    assert (found["agreement"]["state"], found["started"], found["verdict"]) == ("same", True, "compatible")
    assert found["agreement"]["hooks"] == ("builder_describe", "builder_detect")
    assert found["agreement"]["missing"] == ("builder_build",)

    world.push(world.greeter(tmp_path / "two", lock, version="0.2.0", marker="two"))
    with monkeypatch.context() as later:
        later.setattr(negotiation, "PROTOCOLS", (2,))
        with pytest.raises(Failed, match=r"speaks protocol 1 .*this server speaks protocol 2.* too old for this server"):
            world.extensions.upgrade(("greeter",))
        later.setattr(negotiation, "__version__", "2.0.0")
        with pytest.raises(Invalid, match=r"greeter 0\.2\.0 speaks protocol 1 \(SDK 0\.1\.0\), this server"):
            world.extensions.upgrade(("greeter",))
    assert world.extensions.get("greeter")["version"] == "0.1.0"
    assert world.nothing_is_half_made()


def test_what_an_extension_speaks_is_read_from_its_environment(world, tmp_path, lock):
    world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    (speaker,) = speakers(world.host)
    assert speaker.contract["sdk_version"] == negotiation.__version__
    assert speaker.contract["digest"] == negotiation.our_side().digest
