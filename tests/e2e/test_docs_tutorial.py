"""The tutorial's commands work as they stand, one after the other, in a home of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs/tutorial/first-model.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND_TIMEOUT = 900

pytestmark = [pytest.mark.full, pytest.mark.timeout(2400)]


def commands() -> list[str]:
    """What a reader types: the lines after `$ ` of every console block, continuation lines joined."""
    typed = []
    for block in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        typed += [line[2:] for line in block.replace("\\\n", "").splitlines() if line.startswith("$ ")]
    return typed


@pytest.fixture
def reader(tmp_path) -> Iterator[dict[str, str]]:
    """The environment of somebody who has just cloned: nothing set, a home of their own, only packages cached."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    uv_cache = os.environ.get("UV_CACHE_DIR") or str(caches / "uv")
    environment = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("FUSEML_", "GIT_")) and name not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")
    } | {
        "HOME": str(tmp_path),
        "FUSEML_HOME": str(tmp_path / "fz"),
        "FUSEML_PORT": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "UV_CACHE_DIR": uv_cache,
        "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv"),
    }
    yield environment
    fuseml = shutil.which("fuseml", path=environment["PATH"])
    if fuseml:
        subprocess.run([fuseml, "server", "stop", "--force"], env=environment, cwd=ROOT, timeout=120, check=False,
                       capture_output=True)
    _kill_what_is_left(tmp_path)


def _processes_of(home: Path) -> list[int]:
    """Ids of processes that were started for a home: it is in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"FUSEML_HOME={home}/".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _kill_what_is_left(home: Path) -> None:
    for pid in _processes_of(home):
        os.kill(pid, signal.SIGKILL)


def type_in(command: str, environment: dict[str, str]) -> str:
    """Run one command of the tutorial; its output is the message of a failure."""
    started = time.monotonic()
    done = subprocess.run(shlex.split(command), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_TIMEOUT)
    print(f"$ {command}   ({time.monotonic() - started:.1f} s)\n{done.stdout}")
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


def test_the_tutorial_has_the_commands_of_the_design():
    """The literal forms that the requirements give are among what the reader types."""
    text = "\n".join(commands())

    assert "fuseml project create myproj" in text
    assert "fuseml project set myproj" in text
    assert "--name training-pipeline --input mlflow_code='code://*'" in text
    assert "--name serving-pipeline --input model='model://*'" in text
    assert "fuseml pipeline results show --current-code --recursive" in text


def test_the_tutorial_works(reader):
    """Every command succeeds, in order; at the end nothing that was started runs any more."""
    outputs = {command: type_in(command, reader) for command in commands()}

    results = outputs["fuseml pipeline results show --current-code --recursive"]
    assert "training-pipeline/1" in results
    assert "serving-pipeline/1" in results
    assert "sklearn (default)" in results
    assert _processes_of(Path(reader["HOME"])) == []
