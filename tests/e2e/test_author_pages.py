"""The pages for authors of plugins: their commands work as they stand, one after the other, in a home of their own."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fuseml_sdk.errors import Cancelled, InvalidInput, NotFound, NotReady, Permanent, Retryable
from fuseml_sdk.testing import serving
from fuseml_sdk.types import ArtifactRef

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


@pytest.fixture
def upstream(tmp_path, monkeypatch) -> Iterator[tuple[str, list[str]]]:
    """The plugin of the page about errors as a module `upstream_page`, and a system that it can ask: URL, requests."""
    blocks = [block for kind, block in BLOCK.findall((DOCS / "how-to/handle-errors-and-secrets.md").read_text())
              if kind == "python"]
    (tmp_path / "upstream_page.py").write_text("\n\n".join(blocks))
    monkeypatch.syspath_prepend(str(tmp_path))
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Authorization"])
            status, body = {
                "/health": (200, "{}"), "/datasets/gone/latest": (404, ""), "/datasets/busy/latest": (503, ""),
                "/datasets/shut/latest": (401, ""), "/datasets/odd/latest": (200, "<html>"),
                "/datasets/slow/sha256:a/link": (200, '{"ready": false}'),
                "/datasets/there/latest": (200, '{"digest": "sha256:a", "size": 3}')}[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_r168_the_plugin_of_the_page_about_errors_works(upstream, tmp_path):
    """Each error comes out as the table says, the secret in none of them, and a deadline ends the waiting."""
    url, asked = upstream
    state = tmp_path / "state"
    state.mkdir()
    with serving("upstream_page:Upstream", state, {"url": url, "token": "hush-hush"}) as plugin:
        assert plugin.call("fuseml_health") == {"url": url, "token": True}
        assert set(asked) == {"Bearer hush-hush"}
        wanted = {"gone": NotFound, "busy": NotReady, "shut": Permanent, "odd": Permanent}
        for name, kind in wanted.items():
            with pytest.raises(kind) as raised:
                plugin.call("store_get", ref=ArtifactRef(kind="dataset", project="p", name=name))
            assert "hush-hush" not in str(raised.value)
        made = plugin.call("store_get", ref=ArtifactRef(kind="dataset", project="p", name="there"))
        assert (made.digest, made.size) == ("sha256:a", 3)
        with pytest.raises(Cancelled):
            plugin.call("store_locate", ref=ArtifactRef(kind="dataset", project="p", name="slow", digest="sha256:a"),
                        accepts=["https"], deadline=2.0)
    for settings, what in (({}, "the setting url is wrong"), ({"url": "http://127.0.0.1:9"}, "cannot be reached")):
        folder = tmp_path / f"state-{len(settings)}"
        folder.mkdir()
        with pytest.raises((InvalidInput, Retryable), match=what), serving("upstream_page:Upstream", folder,
                                                                          settings) as plugin:
            plugin.call("fuseml_health")


@pytest.mark.full
@pytest.mark.timeout(600)
def test_r168_the_page_about_debugging_works(place):
    page = "how-to/debug-a-plugin.md"
    place.section(page, "Watch it")
    with place.second_terminal("fuseml plugin dev shelf") as terminal:
        terminal.wait_for("the local server uses it as shelf/shelf")
        mine, = (entry for entry in place.fuseml.json("plugin", "list") if entry["extension"] == "shelf")
        assert (mine["name"], mine["family"], mine["version"]) == ("shelf/shelf", "store", "0.1.0-dev")
        assert mine["kinds"], "what it keeps, as of any other store"
        about = place.fuseml("plugin", "info", "shelf").out
        assert "Says of itself:" in about
        said = place.section(page, "Ask it yourself")
        assert '"store_register"' in said
        assert "not-found" in said
        assert "not-found" in terminal.wait_for("store_get")
    assert "passed" in place.section(page, "Run one rule, or one test, under a debugger")
    said = place.section(page, "When it is installed")
    assert re.search(r"store_describe +ok|store_describe +[^ ]+ +.*ok", said)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_r168_the_page_about_errors_works(place):
    """A plugin's refusal reaches the person who pushed; the secret is shown to nobody."""
    *before, push = [c for c in typed("how-to/handle-errors-and-secrets.md") if not c.startswith(("fuseml run", "fuseml plugin stats"))]
    for command in before:
        place.run(command)
    said = place.run(push, code=1)
    assert "at most 20 are taken in" in said
    assert "Raise the setting max_bytes." in said
    assert "at most 20" in place.run("fuseml run get words/1")
    assert re.search(r"store_register +1 +.*invalid-input", place.run("fuseml plugin stats shelf"))
    assert "a secret" not in "".join(place.said)
    logs = place.fuseml.home / "fz/logs"
    assert not [path for path in logs.rglob("*.log") if "a secret" in path.read_text(errors="replace")]


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_server_forgets_a_plugin_whose_author_is_gone(place):
    """Also when the author's command is killed, and not when the server itself starts again."""
    place.run("fuseml plugin new store shelf")
    with place.second_terminal("fuseml plugin dev shelf") as terminal:
        terminal.wait_for("the local server uses it as shelf/shelf")
        place.fuseml.kill("control")
        place.fuseml.wait_for(lambda: _developed(place), 60, "the plugin, after the server started again")
        terminal.process.send_signal(signal.SIGKILL)
        terminal.process.wait(60)
        place.fuseml.wait_for(lambda: not _developed(place), 60, "the end of the lease")
    with place.second_terminal("fuseml plugin dev shelf") as terminal:
        terminal.wait_for("the local server uses it as shelf/shelf")
        assert _developed(place)
    assert not _developed(place), "an orderly end needs no lease to run out"


def _developed(place: Place) -> list[str]:
    return [entry["name"] for entry in place.fuseml.json("plugin", "list") if entry["hosting"] == "address"]


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
    refused = place.run("fuseml extension uninstall shelf", code=5)
    assert "the project library, for its datasets, uses it" in refused
    assert re.search(r"the project library, with \d datasets kept there, uses it", refused)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_r133_r165_r168_a_new_agent_runs_what_was_pushed(place):
    """The page about agents: the scaffolded agent passes the kit, is installed, and a step runs there on pushed code."""
    page = "how-to/write-an-agent.md"
    said = place.section(page, "1. Begin, and let it run something")
    assert "platinum" in said
    assert "words/1 succeeded" in said
    assert re.search(r"runner/runner +0\.1\.0 +agent_submit +1 +-", said)
    run = place.fuseml.json("run", "get", "words/1")
    assert [step["agent"] for step in run["steps"]] == ["runner/runner"], run
    assert [metric["value"] for metric in run["steps"][0]["metrics"]] == [6.0], run
    (dataset,) = place.fuseml.json("dataset", "list")
    place.run(f"fuseml dataset get {dataset['address']}")
