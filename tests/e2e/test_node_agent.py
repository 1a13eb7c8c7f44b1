"""The example in another language: its README's commands work, and the server notices when it goes and comes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/node-agent"


class NodeAgent:
    """The program of the example, started and stopped as its README says."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fz-"))
        self.socket = self.folder / "a.sock"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        node = shutil.which("node")
        assert node, "nodejs is not installed: apt-get install nodejs"
        self.process = subprocess.Popen(
            [node, str(EXAMPLE / "agent.mjs"), "--state", str(self.folder / "jobs"), "--unix", str(self.socket)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"node-agent listens at unix:{self.socket}\n"

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None


@pytest.fixture
def agent():
    it = NodeAgent()
    it.start()
    yield it
    if it.process is not None:
        it.stop()
    shutil.rmtree(it.folder)


def _commands(agent: NodeAgent) -> list[list[str]]:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8").replace("/tmp/node-agent.sock", str(agent.socket))
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[2:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]


@pytest.mark.full
def test_r133_r165_an_agent_in_another_language_is_installed_and_runs_jobs(numbers, agent, tmp_path):
    plan = None
    for command in _commands(agent):
        if command[:2] == ["extension", "install"]:
            plan = numbers(*command, "--dry-run").out
        found = numbers(*command)
        if command == ["plugin", "list"]:
            assert re.search(r"node-agent/node +agent +node-agent 0\.1\.0 +address +ready", found.out)
    assert "somebody else runs it, so it is neither isolated nor restarted" in plan
    assert found.out.count("words/1 count") == 1
    (data,) = numbers.json("dataset", "list", "--project", "words")
    assert (data["type"], data["producer"]["run"]) == ("csv", "words/1")
    assert "different words" in numbers("run", "logs", "words/1", "--project", "words").out

    agent.stop()
    folder = tmp_path / "poems"
    folder.mkdir()
    (folder / "poem.txt").write_text("one fish two fish")
    numbers("codeset", "push", str(folder), "--name", "poems", "--project", "words")
    numbers.wait_for(lambda: "is away" in numbers("run", "get", "words/2", "--project", "words", code=None).out, 60,
                     "the reason for waiting")
    assert re.search(r"node-agent/node +agent .* failed", numbers("plugin", "list").out)
    agent.start()
    numbers.wait_for(lambda: "succeeded" in numbers("run", "get", "words/2", "--project", "words").out, 120,
                     "the end of the run")
    assert "3 different words" in numbers("run", "logs", "words/2", "--project", "words").out

    numbers("pipeline", "remove", "words", "--project", "words", code=None)
    numbers("extension", "uninstall", "node-agent", "--force")
    assert "node-agent" not in numbers("plugin", "list").out
    started = time.monotonic()
    agent.stop()
    assert time.monotonic() - started < 30
