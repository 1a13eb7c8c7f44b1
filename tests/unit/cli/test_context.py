"""The current project."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fuseml_core.cli.context import choose_project, current_project
from fuseml_core.domain.errors import Invalid
from fuseml_core.settings import Settings


def test_r175_the_chosen_project_is_remembered(settings: Settings) -> None:
    assert current_project(settings) is None
    choose_project(settings, "myproj")
    assert current_project(settings) == "myproj"
    assert [p.name for p in settings.home.iterdir()] == ["context.json"]
    choose_project(settings, None)
    assert current_project(settings) is None


def test_each_server_has_its_own_current_project(settings: Settings) -> None:
    remote = dataclasses.replace(settings, url="https://ml.example.org")
    choose_project(settings, "here")
    choose_project(remote, "there")
    assert (current_project(settings), current_project(remote)) == ("here", "there")


def test_a_broken_context_file_is_named(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.path("context.json").write_text("{")
    with pytest.raises(Invalid, match=r"context\.json cannot be read"):
        current_project(settings)
    settings.path("context.json").write_text(json.dumps([1]))
    assert current_project(settings) is None
