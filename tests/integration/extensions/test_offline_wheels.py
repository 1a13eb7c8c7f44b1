"""An extension whose bundle carries its wheels is installed where no package index can be reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuseml_core.domain.errors import FusemlError
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.bundles.vendoring import vendor
from fuseml_oci.client import RegistryClient


def _cut_off(world, monkeypatch, cache: Path) -> None:
    """From now on no index can be reached, and uv remembers nothing."""
    monkeypatch.setenv("UV_CACHE_DIR", str(cache))
    world.configuration = replace(world.configuration, offline=True, index_url="http://127.0.0.1:9/simple")
    world.extensions = world.start()


def _push(world, source: Path, wheels: list[Path]) -> None:
    built = build(source, vendored=wheels)
    place = read_reference("greeter", world.place)
    with RegistryClient.for_reference(place) as client:
        push(built, place, client)


def test_r170_carried_wheels_need_no_index(world, lock, tmp_path, monkeypatch):
    source = world.greeter(tmp_path / "source", lock)
    wheels = vendor(source, tmp_path / "vendored")
    assert len(wheels) > 3
    _push(world, source, wheels)
    _cut_off(world, monkeypatch, tmp_path / "empty-cache")
    installed = world.install("greeter")
    assert (installed["name"], installed["state"]) == ("greeter", "active")
    assert world.nothing_is_half_made()


def test_without_carried_wheels_the_refusal_says_what_to_do(world, lock, tmp_path, monkeypatch):
    _push(world, world.greeter(tmp_path / "source", lock), [])
    _cut_off(world, monkeypatch, tmp_path / "empty-cache")
    (world.home / "envs").unlink()
    (world.home / "envs").mkdir()
    with pytest.raises(FusemlError) as raised:
        world.install("greeter")
    assert "offline" in raised.value.message
    assert world.nothing_is_half_made()
