"""The launcher does what it is told, or nothing is started (R133)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fuseml_core.host import airlock

LAUNCHER = [sys.executable, "-I", "-S", airlock.__file__]
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


def launch(*told, command=("/bin/sh", "-c", "umask; ulimit -n; ulimit -c; echo $GIVEN"), **more):
    return subprocess.run([*LAUNCHER, *told, "--", *command], capture_output=True, text=True, timeout=60, check=False,
                          env={"GIVEN": "kept"}, **more)


def test_r133_umask_and_limits_are_in_force_and_variables_are_kept():
    done = launch("umask=077", f"limit={resource.RLIMIT_NOFILE}:99", f"limit={resource.RLIMIT_CORE}:0")
    assert done.stdout.split() == ["0077", "99", "0", "kept"]
    assert done.returncode == 0


@linux
def test_r133_the_kernel_is_told_what_to_end_first():
    own = int(Path("/proc/self/oom_score_adj").read_text())
    done = launch(f"oom-score={min(own + 7, 1000)}", command=("/bin/cat", "/proc/self/oom_score_adj"))
    assert int(done.stdout) == min(own + 7, 1000)
    assert launch("oom-score=nonsense").returncode == airlock.REFUSED


@linux
@pytest.mark.parametrize("told", ["seccomp=00", "landlock=0:", "connect=99999999"])
def test_r133_what_cannot_be_put_in_force_starts_nothing(told, tmp_path):
    made = tmp_path / "made"
    given = [told] if not told.startswith("connect") else [told, "landlock=4:n"]
    done = launch(*given, command=("/bin/sh", "-c", f"touch {made}"))
    assert done.returncode == airlock.REFUSED
    assert "could not be confined" in done.stderr
    assert not made.exists()


@linux
def test_r133_stray_descriptors_do_not_reach_the_plugin(tmp_path):
    (tmp_path / "secret").write_text("canary")
    with (tmp_path / "secret").open() as file:
        os.set_inheritable(file.fileno(), True)
        number = file.fileno()
        done = launch(command=("/bin/sh", "-c", f"cat <&{number}"), pass_fds=(number,) if number > 4 else ())
    assert "canary" not in done.stdout
    assert done.returncode != 0


def test_a_command_that_is_missing_is_named():
    done = launch(command=("/nonexistent/python",))
    assert done.returncode == airlock.REFUSED
    assert "/nonexistent/python" in done.stderr
