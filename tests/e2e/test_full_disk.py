"""A full disk below FUSEML_HOME: clear errors, nothing half-made, and all works again once there is space."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


class SmallDisk:
    """A file system of 40 MB at FUSEML_HOME that can be filled to the last block."""

    def __init__(self, path: Path) -> None:
        self.path, self._ballast = path, path / "ballast"

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(max(0, file.tell() - left))

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@pytest.fixture
def small(fuseml) -> Iterator[tuple]:
    """An installation on a small disk, with code that takes two seconds to train."""
    folder = fuseml.home / "fz"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted: {mount.stderr.strip()}")
    try:
        fuseml("bundle", "push", "tests/e2e/bundles/numbers")
        fuseml("extension", "install", "numbers")
        fuseml("project", "create", "p")
        fuseml("project", "set", "p")
        fuseml("pipeline", "add", "mean-training", "--name", "training", "--input", "code=code://*", "--param", "seconds=2")
        fuseml("pipeline", "add", "mean-serving", "--name", "serving", "--input", "model=model://*")
        code = fuseml.home / "code"
        code.mkdir()
        yield fuseml, code, SmallDisk(folder)
    finally:
        fuseml.dispose()
        subprocess.run(["umount", "-l", folder], check=True)


def _push(fuseml, code: Path, number: int, *options: str, exit_code: int | None = 0):
    (code / "numbers.txt").write_text(f"{number}\n")
    return fuseml("codeset", "push", str(code), "--name", "myapp", *options, code=exit_code)


def _answer(fuseml) -> float:
    return fuseml.post(fuseml.json("service", "get", "myapp")["url"], [1])["predictions"][0]


def test_the_disk_is_full_when_code_is_pushed(small):
    """The push says so and leaves no version; what is served goes on; the same push works later."""
    fuseml, code, disk = small
    _push(fuseml, code, 1, "--wait")
    disk.fill()

    refused = _push(fuseml, code, 2, exit_code=None)
    made = fuseml("project", "create", "q", code=None)

    assert refused.code == made.code == 6
    assert "no space left" in refused.err
    assert "no space left" in made.err
    assert len(fuseml.json("run", "list", "--pipeline", "training")) == 1
    assert _answer(fuseml) == 1.0
    disk.free()
    _push(fuseml, code, 2, "--wait")
    fuseml("project", "create", "q")
    assert _answer(fuseml) == 2.0


@pytest.mark.parametrize("longer", [0.0, 2.0])
def test_the_disk_is_full_during_training(small, longer):
    """The run fails with the script's own words, also if others take what it kept free; the next one works."""
    fuseml, code, disk = small
    push = fuseml.begin("codeset", "push", str(_written(code, 1)), "--name", "myapp", "--wait")
    fuseml.wait_for(lambda: fuseml.workload_processes("collect.py"), 30, "the training")
    disk.fill()
    fuseml.wait_for(lambda: not fuseml.workload_processes("collect.py"), 30, "its end")
    end = time.monotonic() + longer
    while time.monotonic() < end:
        disk.fill()
    disk.free()

    output = push.communicate(timeout=60)[0]

    assert push.returncode == 1
    assert "No space left on device" in output
    _push(fuseml, code, 2, "--wait")
    assert len(fuseml.json("model", "list")) == 1


def test_the_disk_is_full_when_outputs_are_registered(small):
    """The step waits for room rather than losing what was trained."""
    fuseml, code, disk = small
    push = fuseml.begin("codeset", "push", str(_written(code, 1)), "--name", "myapp", "--wait")
    fuseml.wait_for(lambda: fuseml.workload_processes("collect.py"), 30, "the training")
    disk.fill(left=48 << 10)
    fuseml.wait_for(lambda: not fuseml.workload_processes("collect.py"), 30, "its end")
    disk.free()

    output = push.communicate(timeout=60)[0]

    if push.returncode:  # where exactly the last block went is chance
        assert "No space left on device" in output
        _push(fuseml, code, 2, "--wait")
    assert len(fuseml.json("model", "list")) == 1
    assert len(fuseml.json("service", "list")) == 1


def test_a_process_of_the_server_dies_while_the_disk_is_full(small):
    """The server starts it again and goes on; one that is not running says why it cannot start."""
    fuseml, code, disk = small
    _push(fuseml, code, 1, "--wait")
    disk.fill()
    killed = fuseml.kill("control")

    fuseml.wait_for(lambda: _lives(fuseml), 30, "the control process")
    assert _answer(fuseml) == 1.0
    fuseml.wait_for(lambda: not _exists(killed), 10, "the end of the old one")
    fuseml("server", "stop")
    assert fuseml.workload_processes("") == []
    refused = fuseml("server", "start", code=None)
    assert refused.code != 0
    assert "No space left on device" in refused.err
    assert "Traceback" not in refused.err.partition("The last lines")[0]
    disk.free()
    fuseml("server", "start")
    fuseml.wait_for(lambda: fuseml.json("service", "get", "myapp")["state"] == "ready", 60, "the service")
    assert _answer(fuseml) == 1.0


def _written(code: Path, number: int) -> Path:
    (code / "numbers.txt").write_text(f"{number}\n")
    return code


def _lives(fuseml) -> bool:
    return fuseml("server", "status", code=None).code == 0 and fuseml("run", "list", code=None).code == 0


def _exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("left", [0, 100_000, 450_000])
def test_the_disk_is_full_when_an_extension_is_upgraded(small, tmp_path, left):
    """The old version goes on, garbage can be collected all the same, and the same upgrade works later."""
    fuseml, _code, disk = small
    newer = tmp_path / "numbers"
    shutil.copytree("tests/e2e/bundles/numbers", newer)
    manifest = (newer / "extension.toml").read_text()
    (newer / "extension.toml").write_text(manifest.replace("0.1.0", "0.2.0"))
    (newer / "files/more.bin").write_bytes(random.Random(0).randbytes(400_000))
    fuseml("bundle", "push", str(newer))
    disk.fill(left)

    refused = fuseml("extension", "upgrade", "numbers", code=6)
    collected = fuseml("extension", "gc", "--older-than", "0s", code=None)

    assert "no space left" in refused.err
    assert "defect" not in collected.err
    assert fuseml.json("extension", "list")[0]["version"] == "0.1.0"
    disk.free()
    assert fuseml.json("extension", "verify")["ok"]
    fuseml("extension", "upgrade", "numbers")
    assert fuseml.json("extension", "list")[0]["version"] == "0.2.0"
    assert list((fuseml.home / "fz/extensions/store").glob(".tmp-*")) == []
