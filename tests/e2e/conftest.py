"""A FuseML of its own for each test that wants one, driven through the real command line."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUSEML = Path(sys.executable).with_name("fuseml")
#: Seconds one command may take; making an environment from an empty cache is the slowest.
COMMAND_TIMEOUT = 600.0


@dataclass(frozen=True)
class Result:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as a JSON document."""
        return json.loads(self.out)


def package_caches() -> dict[str, str]:
    """Variables that keep the caches of packages and the Python versions when `HOME` is another."""
    home = Path.home()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return {
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(caches / "uv"),
        "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(home / ".pyenv"),
    }


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of somebody who has just installed FuseML: nothing set, a home of their own."""
    kept = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("FUSEML_", "GIT_")) and name not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
    }
    path = f"{FUSEML.parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **package_caches(), "HOME": str(home), "PATH": path, "FUSEML_HOME": str(home / "fz"),
            "FUSEML_PORT": "0"}


def processes_of(home: Path) -> list[int]:
    """Ids of the processes that were started for a home, children included: it is in their environment or arguments."""
    needle = f"{home}/".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (entry / "environ").read_bytes() or needle in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def wait_for(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """Ask until the answer is true; the answer is returned."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.1)
    pytest.fail(f"{what} did not come within {timeout:g} seconds")


@dataclass
class Fuseml:
    """One installation: a home, an environment and the commands."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT

    def __call__(self, *arguments: str, code: int | None = 0, timeout: float = COMMAND_TIMEOUT,
                 cwd: Path | None = None) -> Result:
        """Run `fuseml` with arguments; `code` is the exit code to expect, None accepts any."""
        done = subprocess.run([FUSEML, *arguments], cwd=cwd or self.cwd, env=self.environment, timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        print(f"$ fuseml {' '.join(arguments)}   [{done.returncode}]\n{done.stdout}{done.stderr}")
        if code is not None:
            assert done.returncode == code, f"fuseml {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return Result(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Any:
        """Run a command with `-o json` and return the document."""
        return self(*arguments, "-o", "json").json

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen([FUSEML, *arguments], cwd=self.cwd, env=self.environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    @property
    def state(self) -> dict[str, Any]:
        """What the launcher wrote about the running server: process ids, port."""
        return json.loads((self.home / "fz/run/server.json").read_text(encoding="utf-8"))

    @property
    def base_url(self) -> str:
        """Where the data process listens."""
        return f"http://127.0.0.1:{self.state['port']}"

    def kill(self, process: str) -> int:
        """Kill one process of the server, `launcher`, `control` or `data`, and return the id it had."""
        pid = int(self.state["pids"][process])
        os.kill(pid, signal.SIGKILL)
        return pid

    def post(self, url: str, document: Any, timeout: float = 30.0) -> Any:
        """Send a JSON document to a service; relative addresses are the data process's."""
        request = urllib.request.Request(
            url if "://" in url else self.base_url + url, json.dumps(document).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)

    @staticmethod
    def wait_for(condition: Callable[[], Any], timeout: float, what: str) -> Any:
        """Ask until the answer is true; the answer is returned."""
        return wait_for(condition, timeout, what)

    def workload_processes(self, word: str) -> list[int]:
        """Ids of processes of this installation whose arguments contain a word, such as the name of a script."""
        found = []
        for pid in processes_of(self.home):
            with contextlib.suppress(OSError):  # it may end while it is looked at
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def git(self, *arguments: str, cwd: Path) -> str:
        """Run git as a person with a name would."""
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *identity, *arguments], cwd=cwd, env=self.environment, timeout=120, check=False,
                              capture_output=True, text=True)
        assert done.returncode == 0, f"git {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def install(self, *extensions: str) -> None:
        """Build bundles of this repository, push them to the embedded registry and install them from there."""
        for name in extensions:
            self("bundle", "push", f"bundles/{name}")
            self("extension", "install", name)

    def dispose(self) -> list[str]:
        """Stop everything; returns the arguments of processes that `server stop` left behind (killed now)."""
        if (self.home / "fz/run/server.json").exists():
            self("server", "stop", "--force", code=None, timeout=120)
        end = time.monotonic() + 2  # a process that has reported its end may need a moment to be gone
        while processes_of(self.home) and time.monotonic() < end:
            time.sleep(0.05)
        left = []
        for pid in processes_of(self.home):
            with contextlib.suppress(OSError):
                left.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
                os.kill(pid, signal.SIGKILL)
        return left


@contextlib.contextmanager
def installation(**environment: str) -> Iterator[Fuseml]:
    """An installation with nothing in it; at the end nothing of it may run any more."""
    home = Path(tempfile.mkdtemp(prefix="fz-"))  # short: a socket's path has room for 108 bytes
    fuseml = Fuseml(home, {**clean_environment(home), **environment})
    try:
        yield fuseml
        left = fuseml.dispose()
        assert left == [], f"`fuseml server stop` left processes behind: {left}"
    finally:
        fuseml.dispose()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def fuseml() -> Iterator[Fuseml]:
    """A new installation."""
    with installation() as instance:
        yield instance


@pytest.fixture(scope="session")
def shared() -> Iterator[Fuseml]:
    """One installation for all tests that need no more than a project of their own, with `mlflow` and `kserve`."""
    with installation() as instance:
        instance.install("mlflow", "kserve")
        yield instance


@pytest.fixture(scope="session")
def numbers() -> Iterator[Fuseml]:
    """One installation with the extension `numbers`, whose steps need nothing but Python and take milliseconds."""
    with installation() as instance:
        instance("bundle", "push", "tests/e2e/bundles/numbers")
        instance("extension", "install", "numbers")
        yield instance


_projects = itertools.count(1)


@dataclass
class Project:
    """A project of its own in an installation that several tests share."""

    fuseml: Fuseml
    name: str
    folder: Path

    def __call__(self, *arguments: str, code: int | None = 0) -> Result:
        """Run a command in this project."""
        return self.fuseml(*arguments, "--project", self.name, code=code)

    def json(self, *arguments: str) -> Any:
        """Run a command in this project with `-o json`."""
        return self.fuseml.json(*arguments, "--project", self.name)

    def write(self, **files: str) -> Path:
        """Put files into the code of the project; `numbers` is written to `numbers.txt`."""
        for name, text in files.items():
            (self.folder / {"numbers": "numbers.txt", "readme": "README.md"}.get(name, name)).write_text(text)
        return self.folder

    def begin_push(self, name: str = "myapp", **files: str) -> subprocess.Popen[str]:
        """Start a push that waits, and go on."""
        return self.fuseml.begin("codeset", "push", str(self.write(**files)), "--name", name, "--wait",
                                 "--project", self.name)

    def push(self, name: str = "myapp", code: int | None = 0, **files: str) -> Result:
        """Write files, push the code and wait for everything that follows."""
        return self("codeset", "push", str(self.write(**files)), "--name", name, "--wait", code=code)

    def run(self, name: str) -> dict[str, Any]:
        """One run with its steps by name."""
        run = self.json("run", "get", name)
        return {**run, "steps": {step["name"]: step for step in run["steps"]}}

    def add_pipelines(self, *, serve: bool = True) -> None:
        """Train whatever is pushed and serve whatever is trained."""
        self("pipeline", "add", "mean-training", "--name", "training-pipeline", "--input", "code=code://*")
        if serve:
            self("pipeline", "add", "mean-serving", "--name", "serving-pipeline", "--input", "model=model://*")


def new_project(fuseml: Fuseml, tmp_path: Path) -> Project:
    """A project with an empty folder for code."""
    name = f"p{next(_projects)}"
    fuseml("project", "create", name)
    folder = tmp_path / "code"
    folder.mkdir()
    return Project(fuseml, name, folder)


@pytest.fixture
def project(numbers: Fuseml, tmp_path: Path) -> Project:
    """A new project with an empty folder for code, in the installation with `numbers`."""
    return new_project(numbers, tmp_path)


@pytest.fixture
def mlflow(shared: Fuseml, tmp_path: Path) -> Project:
    """A new project in the installation with `mlflow` and `kserve`; whatever is pushed is trained."""
    made = new_project(shared, tmp_path)
    made("pipeline", "add", "mlflow-training", "--name", "training-pipeline", "--input", "mlflow_code=code://*")
    return made
