"""The page about testing plugins, and the scorecard's way from the author to the marketplace."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/test-a-plugin.md").read_text(encoding="utf-8")
COMMANDS = [line[2:] for line in PAGE.splitlines() if line.startswith("$ fuseml ")]
FAULTS = re.search(r"`tests/test_faults.py`:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1]


def run(fuseml, command, folder):
    return fuseml(*shlex.split(command)[1:], cwd=folder, timeout=300)


@pytest.mark.full
def test_r134_the_pages_commands_work_and_the_scorecard_is_shown(numbers, tmp_path):
    """From nothing to a scorecard in the marketplace; one of other wheels is refused."""
    new, test, conform = COMMANDS
    run(numbers, new, tmp_path)
    project = tmp_path / "notes-store"
    (project / "tests/test_faults.py").write_text(FAULTS)
    run(numbers, f"{test} --junit {tmp_path / 'junit.xml'}", tmp_path)
    card = json.loads((project / "scorecard.json").read_text())
    assert card["level"] == "platinum"
    assert card["extension"]["name"] == "notes-store"
    assert any(name.startswith("notes_store-") for name in card["wheels"])
    assert "test_contents_survive_a_kill" in (tmp_path / "junit.xml").read_text()

    pushed = run(numbers, "fuseml bundle push notes-store --output json", tmp_path).json
    assert len(pushed["attached"]) == 1
    base = re.search(r"http://\S+/marketplace/", numbers("server", "status").out)[0]
    with urllib.request.urlopen(f"{base}api/packages/extensions/notes-store", timeout=30) as answer:
        shown = json.load(answer)
    scorecards = [each["scorecard"] for each in shown["attachments"] if each["label"] == "Scorecard"]
    assert [(each["level"], each["failed"]) for each in scorecards] == [("platinum", 0)]

    run(numbers, "fuseml extension install notes-store", tmp_path)
    about = numbers("extension", "info", "notes-store").out
    assert re.search(r"Scorecard: +platinum: \d+ rules passed, 0 failed, \d+ exempt; (not )?signed by ", about)
    page = re.search(rf"{base}packages/extensions/notes-store/\S+", about)[0]
    with urllib.request.urlopen(page, timeout=30) as answer:
        assert "Scorecard" in answer.read().decode()
    numbers("extension", "uninstall", "notes-store")

    other = {**card, "wheels": dict.fromkeys(card["wheels"], f"sha256:{'0' * 64}")}
    (tmp_path / "other.json").write_text(json.dumps(other))
    refused = numbers("bundle", "attach", pushed["reference"], str(tmp_path / "other.json"), "--type", "scorecard",
                      cwd=tmp_path, code=None)
    assert refused.code != 0
    assert "has the digest" in refused.err
    conform_by_address(numbers, project, conform, tmp_path)


def conform_by_address(fuseml, project, conform, folder):
    socket = folder / "notes.sock"
    process = subprocess.Popen([project / ".venv/bin/python", "-m", "fuseml_sdk.serve", "notes_store:NotesStore",
                                "--socket", socket], stdin=subprocess.DEVNULL, cwd=folder)
    try:
        until = time.monotonic() + 60
        while not socket.exists() and time.monotonic() < until:
            time.sleep(0.05)
        run(fuseml, conform.replace("/tmp/notes.sock", str(socket)), folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert json.loads((folder / "scorecard.json").read_text())["plugins"][0]["hosts"] == ["address"]
    assert (folder / "report.xml").read_bytes().startswith(b"<?xml")
