"""`fuseml plugin dev` without a server: a plugin that starts again with every change, whatever its author does to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from fuseml_core.cli.client import UnixConnection
from fuseml_oci.bundles import scaffold

FUSEML = Path(sys.executable).with_name("fuseml")
PATIENCE = 120.0
SECRET = "a-secret-that-nobody-may-see"


class Terminal:
    """A running `plugin dev`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, cwd: Path) -> None:
        self.process, self._log, self._read, self.cwd = process, log, 0, cwd

    def wait_for(self, what: str) -> str:
        """Wait until it writes something that was not seen before; returns what came up to there."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            text = self._log.read_text(errors="replace")[self._read:]
            if found := re.search(what, text):
                self._read += found.end()
                return text[:found.end()]
            assert self.process.poll() is None, f"it has ended:\n{text}"
            time.sleep(0.02)
        pytest.fail(f"{what!r} was not written:\n{self._log.read_text(errors='replace')}")

    @property
    def text(self) -> str:
        """Everything."""
        return self._log.read_text(errors="replace")

    @property
    def socket(self) -> str:
        """Where the plugin listens."""
        found = re.search(r"--unix-socket (\S+)", self.text)
        assert found, self.text
        return str((self.cwd / found[1]).resolve())

    def call(self, hook: str, **arguments) -> tuple[int, dict]:
        """Call a hook; returns status and document."""
        connection = UnixConnection(self.socket, timeout=PATIENCE)
        try:
            connection.request("POST", f"/v1/hooks/{hook}", json.dumps(arguments))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with a short path, for the socket's has room for 108 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="fzd-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A new store; its environment is made once."""
    folder = tmp_path_factory.mktemp("author") / "shelf"
    scaffold.create(folder, "shelf", "store")
    # The tests' dependencies are not needed to run the plugin.
    toml = folder / "pyproject.toml"
    toml.write_text(re.sub(r"\[dependency-groups\]\n.*\n", "", toml.read_text()))
    return folder


@contextmanager
def developing(project: Path, home: Path, *options: str) -> Iterator[Terminal]:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    environment = {**os.environ, "FUSEML_HOME": str(home / "fz"), "HOME": str(home), "XDG_RUNTIME_DIR": str(home),
                   "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(caches / "uv")}
    log = home / f"terminal-{time.monotonic_ns()}"
    with log.open("wb") as output:
        process = subprocess.Popen([FUSEML, "plugin", "dev", str(project), "--no-server", *options], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=home)
    try:
        yield Terminal(process, log, home)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


@contextmanager
def changed(path: Path, before: str, after: str) -> Iterator[None]:
    """Edit a file, and take the edit back."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    try:
        yield
    finally:
        path.write_text(text)


def test_r168_a_plugin_starts_again_with_every_change(project, home):
    code = project / "src/shelf/__init__.py"
    with developing(project, home) as terminal:
        terminal.wait_for(r"store shelf is ready after [\d.]+ s")
        terminal.wait_for("Waiting for changes")
        assert terminal.call("store_describe")[1]["name"] == "shelf"
        terminal.wait_for(r"store_describe +[\d.]+ ms +ok")
        status, problem = terminal.call("store_get", ref={"kind": "dataset", "project": "p", "name": "none"})
        assert (status, problem["type"].rpartition("/")[2]) == (404, "not-found")
        terminal.wait_for(r"store_get +[\d.]+ ms +not-found +there is no dataset p/none")
        socket = terminal.socket
        with changed(code, 'name="shelf"', 'name="pantry"'):
            terminal.wait_for(r"changed: src/shelf/__init__.py")
            terminal.wait_for("is ready again after")
            assert terminal.call("store_describe")[1]["name"] == "pantry"
        terminal.wait_for("is ready again after")
        assert terminal.call("store_describe")[1]["name"] == "shelf", "also when the change is as long as what it undoes"
        (project / "README.md").write_text("Nothing that runs.\n")
        (project / "shelf-0.1.0.oci.tar").write_text("Nor this.\n")
        with changed(project / "src/shelf/config.py", "ge=1", "ge=2"):
            assert "README" not in terminal.wait_for("is ready again after")
        terminal.wait_for("is ready again after")
        assert terminal.socket == socket, "callers go on using the same one"
    assert not Path(socket).exists()
    assert terminal.process.returncode == 0
    assert terminal.text.rstrip().endswith("stopped")
    assert [path.name for path in (project / ".dev").iterdir()] == ["state"], "the link to the socket is gone"


def test_r168_mistakes_are_shown_and_end_nothing(project, home):
    code = project / "src/shelf/__init__.py"
    with developing(project, home) as terminal:
        terminal.wait_for("Waiting for changes")
        with changed(code, "import os\n", "import os, nothing_of_this_name\n"):
            said = terminal.wait_for(r"does not work: ModuleNotFoundError: No module named 'nothing_of_this_name'")
            assert 'src/shelf/__init__.py", line' in said
            status, problem = terminal.call("store_describe")
            assert (status, "nothing_of_this_name" in problem["detail"]) == (500, True)
        terminal.wait_for("is ready again after")
        with changed(code, "class ShelfStore", "class ShelfStore("):
            terminal.wait_for("does not work: SyntaxError")
        terminal.wait_for("is ready again after")
        with changed(code, "def store_describe(self)", "def store_describe(self, wrong)"):
            terminal.wait_for(r"does not fit the contract: store_describe has no argument wrong, but none at all "
                              r"\(shelf/__init__\.py, line \d+\)\. Compare: fuseml plugin contract show HOOK")
        terminal.wait_for("is ready again after")
        with changed(code, "    @hookimpl\n    def store_get", "    def store_get"):
            terminal.wait_for("store shelf lacks store_get, which servers call")
        terminal.wait_for("is ready again after")
        with changed(code, "        found = sorted(", "        os._exit(13)\n        found = sorted("):
            terminal.wait_for("is ready again after")
            with pytest.raises(OSError, match=r".*"):
                terminal.call("store_search", query={})
            terminal.wait_for("store shelf ended with exit code 13; it starts again when a file changes")
        terminal.wait_for("is ready again after")
        manifest = project / "extension.toml"
        with changed(manifest, 'version = "0.1.0"', 'version = "one"'):
            terminal.wait_for(r"not started: .*'one' is not a semantic version")
        terminal.wait_for("is ready again after")
        assert terminal.call("store_describe")[0] == 200


def test_r168_settings_come_from_a_file_and_secrets_stay_hidden(project, home):
    settings = home / "settings.toml"
    settings.write_text(f'max_bytes = "many"\ntoken = "{SECRET}"\n')
    with developing(project, home, "--config", str(settings)) as terminal:
        terminal.wait_for("not started: .*max_bytes")
        settings.write_text(f'max_bytes = 3\ntoken = "{SECRET}"\n')
        terminal.wait_for("is ready again after")
        source = home / "source"
        source.mkdir()
        (source / "a.txt").write_text("four")
        request = {"kind": "dataset", "project": "p", "name": "n", "source": {"uri": source.as_uri()}}
        status, problem = terminal.call("store_register", request=request)
        assert (status, "at most 3" in problem["detail"]) == (400, True)
        settings.write_text(f'token = "{SECRET}\n')
        terminal.wait_for("not started: .*cannot be read as TOML")
    assert SECRET not in terminal.text


@pytest.mark.full
@pytest.mark.timeout(300)
def test_r168_what_hangs_is_shown_while_it_hangs(project, home):
    """A call, one that ends with its process, and a start that is not waited for once the file has changed."""
    code, gate = project / "src/shelf/__init__.py", home / "gate"
    waits = f"while not os.path.exists({str(gate)!r}):\n            __import__('time').sleep(0.05)\n        "
    with developing(project, home) as terminal:
        terminal.wait_for("Waiting for changes")
        with changed(code, "        found = sorted(", f"        {waits}found = sorted("):
            terminal.wait_for("is ready again after")
            call = threading.Thread(target=terminal.call, args=("store_search",), kwargs={"query": {}})
            call.start()
            terminal.wait_for(r"store_search +[\d.]+ s +still running")
            terminal.wait_for(r"store_search +[\d.]+ s +still running")
            gate.touch()
            assert "still running" not in terminal.wait_for(r"store_search +\d{4,}\.\d ms +ok")
            call.join(PATIENCE)
            gate.unlink()
            threading.Thread(target=_ignoring, args=(terminal.call, "store_search"), daemon=True).start()
            terminal.wait_for(r"store_search +[\d.]+ s +still running")
        terminal.wait_for(r"store_search +[\d.]+ s +ended with its process")
        terminal.wait_for("is ready again after")
        with changed(code, "import os\n", "import os, time; time.sleep(3600)\n"):
            terminal.wait_for(r"store shelf does not answer yet after [\d.]+ s: it is being imported")
        terminal.wait_for("changed: src/shelf/__init__.py")
        terminal.wait_for("is ready again after")
        assert terminal.call("store_describe")[0] == 200


def _ignoring(call, hook: str) -> None:
    with suppress(OSError, HTTPException):
        call(hook, query={})


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes by /proc")
def test_nothing_is_left_when_it_is_killed(project, home):
    with developing(project, home) as terminal:
        terminal.wait_for("Waiting for changes")
        path = terminal.socket
        child = next(int(entry.name) for entry in Path("/proc").glob("[0-9]*")
                     if _parent(entry) == terminal.process.pid and _is_plugin(entry))
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait(60)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and Path(f"/proc/{child}").exists() and _is_plugin(Path(f"/proc/{child}")):
            time.sleep(0.05)
        assert not _is_plugin(Path(f"/proc/{child}"))
    with developing(project, home) as terminal:
        terminal.wait_for("Waiting for changes")
        assert terminal.socket != path, "a stale socket is no obstacle"


def test_a_project_is_developed_once_at_a_time(project, home):
    with developing(project, home) as terminal:
        terminal.wait_for("Waiting for changes")
        with developing(project, home) as second:
            assert second.process.wait(PATIENCE) == 4
        assert "another `fuseml plugin dev` runs the plugin of" in second.text
        assert terminal.call("store_describe")[0] == 200, "the first one goes on, its link included"


def test_an_environment_is_made_as_the_manifest_says_and_none_is_taken_away(tmp_path, home):
    """A Python that the extension does not accept is not used, and what somebody else made stays."""
    folder = tmp_path / "shelf"
    scaffold.create(folder, "shelf", "store")
    manifest, text = folder / "extension.toml", (folder / "extension.toml").read_text()
    manifest.write_text(text.replace('python = ">=3.11"', 'python = ">=99"'))
    said = _refused(folder, home)
    assert "Error: shelf 0.1.0 needs Python >=99; there is 3." in said
    assert "FUSEML_PYTHONS" in said
    manifest.write_text(text)
    (folder / ".venv").mkdir()
    (folder / ".venv/mine").write_text("mine")
    assert f"{folder}/.venv was made by somebody else" in _refused(folder, home)
    assert (folder / ".venv/mine").read_text() == "mine"


def _refused(folder: Path, home: Path) -> str:
    done = subprocess.run([FUSEML, "plugin", "dev", str(folder), "--no-server"], capture_output=True, text=True,
                          env={**os.environ, "FUSEML_HOME": str(home / "fz")}, timeout=PATIENCE, check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_a_folder_without_a_plugin_is_refused(tmp_path, home):
    scaffold.create(tmp_path / "words", "words", "runnable")
    for folder, said in ((tmp_path / "words", "has no plugin"), (tmp_path, "no extension.toml")):
        assert said in _refused(folder, home)


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _is_plugin(entry: Path) -> bool:
    try:
        return b"fuseml_sdk.serve" in (entry / "cmdline").read_bytes()
    except OSError:
        return False
