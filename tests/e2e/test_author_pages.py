"""The pages for authors of plugins: their commands work as they stand, one after the other, in a home of their own."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(console|sh|toml|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND_TIMEOUT = 600


def typed(page: str, heading: str = "") -> list[str]:
    """What a reader types on a page, or below one heading of it: the lines after `$ ` of every console block."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if heading:
        text = re.split(r"^## ", text.split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [line[2:] for kind, block in BLOCK.findall(text) if kind == "console" for line in block.splitlines()
            if line.startswith("$ ")]


class Place:
    """A folder in which a reader works, and the output of each command."""

    def __init__(self, fuseml, folder: Path) -> None:
        self.fuseml, self.folder = fuseml, folder
        self.said: list[str] = []

    def run(self, command: str, code: int = 0) -> str:
        """Type a command into a shell."""
        started = time.monotonic()
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.fuseml.environment, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=COMMAND_TIMEOUT)
        print(f"$ {command}   ({time.monotonic() - started:.1f} s)\n{done.stdout}")
        assert done.returncode == code, f"$ {command}\n{done.stdout}"
        self.said.append(done.stdout)
        return done.stdout

    def section(self, page: str, heading: str) -> str:
        """Type everything below a heading; returns all of the output."""
        commands = typed(page, heading)
        assert commands, f"{page} has no commands below {heading!r}"
        return "\n".join(self.run(command) for command in commands)

    @contextlib.contextmanager
    def second_terminal(self, command: str) -> Iterator[Terminal]:
        """A command that goes on while others are typed; ended as Ctrl-C does."""
        log = self.folder / f".terminal-{time.monotonic_ns()}"
        with log.open("wb") as output:
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.fuseml.environment,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield Terminal(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()
                print(f"second terminal: {command}\n{log.read_text(errors='replace')}")


class Terminal:
    """What a command in the second terminal has written."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    @property
    def text(self) -> str:
        """All of it."""
        return self._log.read_text(errors="replace")

    def wait_for(self, what: str, *, times: int = 1, timeout: float = 120.0) -> str:
        """Wait until it has written something, so many times; returns everything."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.text.count(what) >= times:
                return self.text
            assert self.process.poll() is None, f"it has ended:\n{self.text}"
            time.sleep(0.05)
        pytest.fail(f"{what!r} was not written {times} times:\n{self.text}")


@pytest.fixture
def place(fuseml, tmp_path) -> Place:
    """An empty folder."""
    return Place(fuseml, tmp_path)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_r168_the_tutorial_for_plugins_works(place):
    """From nothing to a store that is published, installed and used; the fixture checks that nothing is left running."""
    page = "tutorial/write-a-plugin.md"
    assert "error" not in place.section(page, "Begin").lower()
    with place.second_terminal("fuseml plugin dev shelf") as terminal:
        terminal.wait_for("the local server uses it as shelf/shelf")
        said = place.section(page, "Run it while you write it")
        assert "shelf 0.1.0-dev" in said
        assert re.search(r"Store: +shelf/shelf", said)
        assert re.search(r"store_register +[\d.]+ ms +ok", terminal.text)
        place.run(typed(page, "Change one function")[0])
        terminal.wait_for("is ready again")
        said = "\n".join(place.run(command) for command in typed(page, "Change one function")[1:])
        assert re.search(r"Metadata: .*files", said)
        assert "platinum" in place.section(page, "Test it")
    said = place.section(page, "Publish it")
    assert "0 errors" in said
    said = place.section(page, "Install it and use it")
    assert re.search(r"Location: +file:.*/extensions/state/shelf/", said)
    assert re.search(r"Metadata: .*files", said)
    assert re.search(r"store_register +1", said)
    assert place.fuseml.json("plugin", "list")
