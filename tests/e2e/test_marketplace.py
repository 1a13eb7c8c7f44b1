"""From `bundle push` to the page that shows the bundle, in a real server."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/browse-the-marketplace.md"
MANIFEST = """name = "page-turner"
version = "0.1.0"
summary = "Turns pages."
licence = "MIT"
requires_fuseml = ">=0.1,<1"

[[permissions]]
name = "network"
reason = "Asks the librarian."
"""


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def pushed(shared, tmp_path_factory) -> dict:
    """A bundle in the server's own registry."""
    folder = tmp_path_factory.mktemp("page-turner")
    (folder / "extension.toml").write_text(MANIFEST)
    (folder / "README.md").write_text("# page-turner\n\nIt turns *pages*.\n")
    (folder / "runnables").mkdir()
    (folder / "runnables/turn.yaml").write_text(
        "kind: custom\nname: turn\ncommand: ['true']\noutputs: [{name: page, kind: value}]\n")
    return shared.json("bundle", "push", str(folder))


def test_r169_what_is_pushed_is_shown_with_the_command_that_installs_it(shared, pushed):
    """The page knows its server: version, key, short names. The command that it shows works."""
    status = shared("server", "status").out
    base = re.search(r"http://\S+/marketplace/", status)
    assert base, status
    page = _get(f"{base[0]}packages/extensions/page-turner")
    assert "It turns <em>pages</em>." in page
    assert "Fits this server." in page
    about = json.loads(_get(f"{base[0]}api/packages/extensions/page-turner"))
    assert pushed["digest"] == about["digest"]
    permission, = about["permissions"]
    assert permission | {"allows": ""} == {"name": "network", "reason": "Asks the librarian.", "enforced": True,
                                           "allows": "", "why": ""}
    assert "Open connections" in permission["allows"]
    assert about["install"] == "fuseml extension install page-turner"
    assert {entry["name"] for entry in about["signatures"]["good"]} == {"registry"}
    shared(*about["install"].split()[1:])
    assert "page-turner" in [entry["name"] for entry in shared.json("extension", "list")]
    shared("extension", "uninstall", "page-turner")


def test_the_addresses_of_the_page_of_instructions_answer(shared, pushed):
    """What the how-to asks with curl, at this server's address."""
    urls = re.findall(r"http://127\.0\.0\.1:8765(/[^\s'`]*)", HOW_TO.read_text(encoding="utf-8"))
    assert len(urls) >= 2
    for path in urls:
        assert _get(f"{shared.base_url}{path}")
