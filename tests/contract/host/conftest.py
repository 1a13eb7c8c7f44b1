"""A host in a temporary directory, and an environment of its own for the example extension."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

import pytest

from fuseml_core.host import Component, PluginHost

EXAMPLE = Path(__file__).parent / "example"


def alive(pid):
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds=30.0):
    """Ask until the answer is true or the time is over; gives the last answer."""
    end = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


@pytest.fixture(scope="session")
def extension_python(tmp_path_factory):
    """Interpreter of a virtual environment with the SDK and the example extension in it."""
    root = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(root, with_pip=False, symlinks=True)
    site_packages = next((root / "lib").glob("python*/site-packages"))
    parent = sysconfig.get_path("purelib")
    (site_packages / "example.pth").write_text(f"import site; site.addsitedir({parent!r})\n{EXAMPLE}\n")
    return root / "bin" / "python"


@pytest.fixture
def example_importable(monkeypatch):
    """The example extension can be imported here, freshly."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "example_extension", raising=False)


@pytest.fixture
def runtime_dir():
    """A directory with a short path, since socket addresses are short."""
    path = Path(tempfile.mkdtemp(prefix="fz-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(runtime_dir, tmp_path):
    """A host that is shut down afterwards."""
    it = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", drain_seconds=5)
    yield it
    it.shutdown()


@pytest.fixture
def served(tmp_path, extension_python):
    """Serves plugin objects as somebody else would, by the runtimes `stdlib` and `asgi`, and gives their addresses."""
    running = []

    def serve(plugin, runtime="stdlib", *, config=None, state=None, more=()):
        folder = Path(tempfile.mkdtemp(prefix="fz-"))
        settings = folder / "settings.json"
        settings.touch(mode=0o600)
        settings.write_text(json.dumps({"config": config or {}, "state_dir": str(state or folder / "state"),
                                        "drain_seconds": 5}))
        place = ["--socket", str(folder / "p.sock")] if runtime == "stdlib" else ["--asgi", "127.0.0.1:0", *more]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [extension_python, "-m", "fuseml_sdk.serve", plugin, *place], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={"PATH": os.environ["PATH"], "FUSEML_PLUGIN_CONFIG": str(settings)},
                start_new_session=True)
        running.append((process, folder))
        return served_address(process, folder, runtime), process

    yield serve
    for process, folder in running:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder)


def served_address(process, folder, runtime):
    """Wait until it listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        text = (folder / "log").read_text()
        if runtime == "stdlib" and _listens(folder / "p.sock"):
            return f"unix:{folder / 'p.sock'}"
        if runtime == "asgi" and (found := re.search(r"at (https?://\S+)", text)):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"it did not start: {(folder / 'log').read_text()}")


def _listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def component(tmp_path, extension_python, example_importable, served):
    """Makes components of the example extension; hosting `asgi` is an address at which the ASGI runtime serves it."""
    numbers = itertools.count()

    def make(family="store", hosting="subprocess", *, plugin=None, config=None, identifier=None):
        number = next(numbers)
        if hosting in ("address", "asgi"):
            address, _ = served(plugin or f"example_extension:{family.capitalize()}",
                                "asgi" if hosting == "asgi" else "stdlib", config=config,
                                state=tmp_path / f"state-{number}")
            return Component(
                id=identifier or f"{family}-{number}", extension="example", version="1.2.3", digest="sha256:0",
                family=family, name="toy", plugin="", hosting="address", config={}, address=address,
                state_dir=tmp_path / f"state-{number}")
        return Component(
            id=identifier or f"{family}-{number}", extension="example", version="1.2.3", digest="sha256:0", family=family,
            name="toy", plugin=plugin or f"example_extension:{family.capitalize()}", hosting=hosting, config=config or {},
            state_dir=tmp_path / f"state-{number}", python=extension_python if hosting == "subprocess" else None,
            # The environment of the tests leads into the source tree by .pth files; those of extensions lead nowhere.
            readable=(EXAMPLE, *map(Path, sys.path)))

    return make
