from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuseml_git.plugin import GitStore
from fuseml_sdk.types import RegisterRequest

SERVER = """
import socket, sys, uvicorn
from fuseml_git.http import create_app
listener = socket.socket(fileno=int(sys.argv[2]))
config = uvicorn.Config(create_app({"root": sys.argv[1]}), log_level="warning", timeout_graceful_shutdown=2)
uvicorn.Server(config).run(sockets=[listener])
"""


class GitServer:
    """The application under uvicorn in a process of its own, on a port that stays the same over restarts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.start()

    def start(self) -> None:
        handle = self._socket.fileno()
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.root), str(handle)], pass_fds=[handle])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._socket.close()


@pytest.fixture
def store(tmp_path):
    store = GitStore()
    store.fuseml_configure({"root": str(tmp_path / "git")}, str(tmp_path / "state"))
    return store


@pytest.fixture
def repository(store, tmp_path):
    store.store_register(RegisterRequest(kind="codeset", project="p", name="app"))
    return tmp_path / "git" / "p" / "app.git"


@pytest.fixture
def server(store, tmp_path):
    server = GitServer(tmp_path / "git")
    yield server
    server.close()


@pytest.fixture
def run(tmp_path):
    """Runs git as a person would, with a configuration of its own; returns its output."""
    home = tmp_path / "person"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
                   "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org",
                   "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org"}

    def run(*arguments, cwd=None, check=True, **more):
        done = subprocess.run(["git", *map(str, arguments)], cwd=cwd, env={**environment, **more}, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout
        return done.stdout.strip() if check else done

    return run


@pytest.fixture
def work(run, tmp_path):
    """A repository of a person with one commit."""
    folder = tmp_path / "work"
    run("init", "-q", "-b", "main", folder)
    (folder / "MLproject").write_text("name: wine\n")
    (folder / "train.py").write_text("print('hello')\n")
    run("add", ".", cwd=folder)
    run("commit", "-q", "-m", "First", cwd=folder)
    return folder


def wait_for(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def eventually():
    return wait_for
