"""R134: the fixtures of the kit's pytest plugin do to a plugin what they say."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fuseml_sdk.errors import Internal, PluginError
from fuseml_sdk.testing import conformance
from fuseml_sdk.testing.samples import Samples
from fuseml_sdk.types import FileListing

BUILDER = '''
import os
from pathlib import Path
from fuseml_sdk import hookimpl
from fuseml_sdk.types import BuilderDescription, Detection

class Plugin:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.state = Path(state_dir)

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="|".join(sorted(os.environ)), types=["t"], makes=["m"])

    @hookimpl
    def builder_detect(self, listing):
        try:
            (self.state / "file").write_bytes(b"x" * 1_000_000)
        except OSError as error:
            return Detection(matches=False, why=f"disk: {error.strerror}")
        return Detection(matches=False, why="written")
'''


def test_a_temporary_plugin_is_served_without_the_developers_machine(tmp_plugin, served_plugin, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "x")
    served = served_plugin(tmp_plugin(BUILDER))
    names = served.call("builder_describe").name.split("|")
    assert "MY_SECRET" not in names
    assert {"HOME", "PATH", "TMPDIR"} <= set(names)


def test_kill9_ends_it_at_once(tmp_plugin, served_plugin, kill9):
    served = served_plugin(tmp_plugin(BUILDER))
    kill9(served)
    assert served.process.returncode == -9


def test_hang_lets_it_stand_still_and_go_on(tmp_plugin, served_plugin, hang):
    served = served_plugin(tmp_plugin(BUILDER))
    with hang(served), pytest.raises(Internal, match="not answered"):
        served.call("builder_describe", seconds=0.3)
    assert served.call("builder_describe").types == ["t"]


def test_full_disk_fails_writes_and_ends_with_the_block(tmp_plugin, served_plugin, full_disk):
    served = served_plugin(tmp_plugin(BUILDER))
    with full_disk(served):
        assert served.call("builder_detect", listing=FileListing()).why.startswith("disk: File too large")
    assert served.call("builder_detect", listing=FileListing()).why == "written"


def test_a_full_small_disk_is_really_full(tmp_plugin, small_disk, full_disk):
    served = small_disk(tmp_plugin(BUILDER), 8 << 20)
    if "no disk of its own" in served.written():
        pytest.skip(served.written().strip())
    with full_disk(served):
        why = served.call("builder_detect", listing=FileListing()).why
        assert why == "disk: No space left on device", served.written()
    assert served.call("builder_detect", listing=FileListing()).why == "written"
    assert list(served.state.iterdir()) == [served.state / "tmp"]


def test_oom_leaves_no_memory(tmp_plugin, served_plugin, oom):
    served = served_plugin(tmp_plugin(BUILDER.replace('(self.state / "file").write_bytes(b"x" * 1_000_000)',
                                                      'bytearray(200 << 20)')))
    with oom(served), pytest.raises(PluginError):
        served.call("builder_detect", listing=FileListing(), seconds=30)


def test_gil_hog_holds_the_interpreter(tmp_plugin, gil_hog):
    begun = time.monotonic()
    served = gil_hog(tmp_plugin(BUILDER), 0.6)
    # The signal is handled before or after a first call; by the second it is over.
    for _ in range(50):
        served.call("builder_describe")
        if time.monotonic() - begun >= 0.6:
            break
        time.sleep(0.02)
    assert time.monotonic() - begun >= 0.6


def test_slow_start_lets_calls_wait(tmp_plugin, slow_start):
    begun = time.monotonic()
    served = slow_start(tmp_plugin(BUILDER), 0.5)
    assert served.call("builder_describe").types == ["t"]
    assert time.monotonic() - begun >= 0.5


def test_broken_import_is_told_by_describe(tmp_plugin, broken_import):
    served = broken_import(tmp_plugin("import colorsys\n" + BUILDER), "colorsys")
    assert "broken on purpose" in served.describe()["failure"]["detail"]


def test_what_has_no_address_is_refused():
    class Local:
        pass

    with pytest.raises(PluginError, match="cannot be imported by another process"):
        conformance(Local)


def test_a_job_that_its_agent_forgot_ends_when_the_kit_cleans_up(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    _, *arguments = Samples().lasting().runnable.command
    with subprocess.Popen([sys.executable, *arguments], cwd=folder, stderr=subprocess.PIPE) as job:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(1.5)
            folder.rmdir()
            assert job.wait(60) != 0
        finally:
            job.kill()
