"""Every requirement that the reference lists is shown by a test whose name carries its number."""

from __future__ import annotations

import re

import pytest

LISTED = re.compile(r"^\| R(\d+) \|", re.MULTILINE)
IN_A_NAME = re.compile(r"(?<=_)r(\d+)(?=_|$)")


@pytest.fixture(scope="module")
def listed(root) -> list[int]:
    """Numbers on the page, in its order."""
    return [int(n) for n in LISTED.findall((root / "docs/reference/requirements.md").read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def shown(test_names) -> set[int]:
    """Numbers in the names of tests."""
    return {int(n) for name in test_names for n in IN_A_NAME.findall(name.split("::")[-1])}


def test_requirements_are_listed_once_in_order(listed):
    """A number that is listed twice, or lost, would hide a demand."""
    assert listed == sorted(set(listed))


def test_every_listed_requirement_has_a_test(listed, shown):
    """`pytest -k _r57_` must show R57."""
    missing = [f"R{number}" for number in listed if number not in shown]
    assert not missing, f"{len(missing)} without a test: {' '.join(missing)}"


def test_every_number_in_a_test_is_listed(listed, shown):
    """The list grows with the product."""
    assert {f"R{number}" for number in shown - set(listed)} == set()
