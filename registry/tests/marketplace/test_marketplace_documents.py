"""What the reference says about the JSON documents is what they have; the wheel has what pages need."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[3]


def _fields(heading: str) -> set[str]:
    """Fields in the first column of a table of the reference."""
    text = (ROOT / "docs/reference/marketplace-api.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return {name for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize(("heading", "path"), [
    ("Search", "/search?q=mlflow"), ("Package", "/packages/extensions/mlflow"),
    ("Difference", "/packages/team/churn/-/1.1.0/diff/1.0.0")])
def test_the_reference_names_every_field(market, heading, path):
    """No field is missing on the page, and none is there that documents do not have."""
    assert _fields(heading) == set(market.json(path))


def test_fields_of_a_found_package_are_documented(market):
    """The entries of lists are in the second column."""
    text = (ROOT / "docs/reference/marketplace-api.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| `packages`"))
    assert set(re.findall(r"`(\w+)`", row)) - {"packages"} == set(market.json("/search?q=mlflow")["packages"][0])


def test_the_wheel_carries_templates_styles_and_scripts(tmp_path):
    """An installed registry has no source folder beside it."""
    wheel = next(WheelBuilder(str(ROOT / "registry")).build(directory=str(tmp_path)))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    pages = ROOT / "registry/src/fuseml_registry/pages"
    wanted = {f"fuseml_registry/pages/{path.relative_to(pages)}" for folder in ("templates", "static")
              for path in (pages / folder).iterdir()}
    assert len(wanted) > 8
    assert wanted <= names
