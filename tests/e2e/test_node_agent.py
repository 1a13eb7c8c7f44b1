"""The example in another language: its README's commands work, and the server notices when it goes and comes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
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

    def start(self, *place: str) -> str:
        """Start it, on its socket if nothing else is said; returns its address."""
        node = shutil.which("node")
        assert node, "nodejs is not installed: apt-get install nodejs"
        self.process = subprocess.Popen(
            [node, str(EXAMPLE / "agent.mjs"), "--state", str(self.folder / "jobs"),
             *(place or ("--unix", str(self.socket)))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
        assert self.process.stdout is not None
        return self.process.stdout.readline().removeprefix("node-agent listens at ").strip()

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


def _configure_secret(fuseml, value):
    """Set the token as a program does: by standard input."""
    command = shutil.which("fuseml", path=fuseml.environment["PATH"]) or str(Path(sys.executable).with_name("fuseml"))
    return subprocess.run([command, "extension", "configure", "node-agent", "--secret", "token"], input=f"{value}\n",
                          capture_output=True, text=True, timeout=120, check=False, env=fuseml.environment)


@pytest.mark.full
def test_r133_r134_an_installation_says_what_is_wrong_with_the_address_and_keeps_the_token(numbers, agent, tmp_path):
    """Nothing is installed while it does not answer; a token is taken like any secret and can be changed."""
    numbers("bundle", "push", str(EXAMPLE))
    missing = numbers("extension", "install", "node-agent", code=None)
    assert (missing.code != 0, "the setting 'url'" in missing.err) == (True, True)
    away = numbers("extension", "install", "node-agent", "--set", "node-agent.url=unix:/nowhere/a.sock", code=None)
    assert (away.code != 0, "is away: unix:/nowhere/a.sock cannot be reached" in away.err) == (True, True)
    assert "node-agent" not in numbers("extension", "list").out

    agent.stop()
    token = tmp_path / "token"
    token.write_text("a-s3cr3t-token")
    url = agent.start("--http", "127.0.0.1:0", "--token-file", str(token))
    refused = numbers("extension", "install", "node-agent", "--set", f"node-agent.url={url}", code=None)
    assert (refused.code != 0, "refuses the request (401)" in refused.err) == (True, True)
    numbers("extension", "install", "node-agent", "--set", f"node-agent.url={url}", "--set",
            "node-agent.token=a-s3cr3t-token")
    shown = numbers("extension", "info", "node-agent").out
    assert "network (declared only: somebody else runs it)" in shown
    shown += numbers("plugin", "info", "node-agent/node").out
    assert url in shown
    assert "s3cr3t" not in shown + "".join(
        log.read_text(encoding="utf-8") for log in (numbers.home / "fz/logs").glob("*.log"))

    token.write_text("another-s3cr3t")
    assert _configure_secret(numbers, "another-s3cr3t").returncode == 0
    wrong = _configure_secret(numbers, "wr0ng-t0ken")
    assert (wrong.returncode != 0, "refuses the request (401)" in wrong.stderr) == (True, True)
    assert "wr0ng" not in wrong.stdout + wrong.stderr
    assert re.search(r"node-agent/node +agent .* ready", numbers("plugin", "list").out)
    numbers("extension", "uninstall", "node-agent", "--force")
