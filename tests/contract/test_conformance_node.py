"""The example agent in JavaScript keeps every rule of the kit that can be checked at an address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

PROGRAM = Path(__file__).parents[2] / "examples/node-agent/agent.mjs"


@pytest.fixture
def node_agent(tmp_path):
    """The program at a TCP address that asks for a token: address and file with the token."""
    node = shutil.which("node")
    assert node, "nodejs is not installed: apt-get install nodejs"
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-long-random-token\n")
    folder = Path(tempfile.mkdtemp(prefix="fz-"))
    process = subprocess.Popen(
        [node, str(PROGRAM), "--state", str(folder / "jobs"), "--http", "127.0.0.1:0", "--token-file", str(token)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
    with process, process.stdout as output:
        yield output.readline().split()[-1], token
        process.terminate()
        assert process.wait(30) == 0
    shutil.rmtree(folder)


@pytest.mark.full
def test_r164_a_program_without_the_sdk_passes_conformance_by_address(node_agent, tmp_path):
    address, token = node_agent
    done = subprocess.run(
        [sys.executable, "-m", "fuseml_sdk.testing", "--address", address, "--token-file", str(token), "--family", "agent",
         "--report", str(tmp_path / "scorecard.json"), "--junit", str(tmp_path / "junit.xml")],
        capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((tmp_path / "scorecard.json").read_text())
    assert "a-long-random-token" not in json.dumps(card) + done.stdout + done.stderr
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    passed = [case.get("name") for case in cases if case.find("skipped") is None]
    assert len(passed) >= 30
