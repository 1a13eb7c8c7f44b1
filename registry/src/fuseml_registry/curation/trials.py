"""Running the tests that a bundle brings: in its own environment, with limits, and gone when they end.

They are not shut in: they run as the curator and can read what the curator can read. So they are run for known authors
only, unless somebody wants it otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuseml_oci.catalog.format import Check
from fuseml_sdk.environments import IndexSettings, ensure_environment, find_python
from fuseml_sdk.errors import PluginError
from fuseml_sdk.manifest import ExtensionManifest

#: Where a bundle has its tests.
TESTS = "files/tests"
#: Characters of the output that are kept, the last ones.
_KEPT = 3000
#: PR_SET_CHILD_SUBREAPER of prctl(2), and seconds in which processes that go on multiplying are hunted.
_SUBREAPER, _PATIENCE = 36, 10.0
#: Sets limits that survive exec, then becomes the tests: memory, processes, size of a file, processor time.
_GUARD = """
import os, resource as r, sys
seconds = int(sys.argv[1])
for what, most in ((r.RLIMIT_AS, 8 << 30), (r.RLIMIT_FSIZE, 1 << 30), (r.RLIMIT_CPU, seconds), (r.RLIMIT_CORE, 0)):
    soft, hard = r.getrlimit(what)
    most = most if hard == r.RLIM_INFINITY else min(most, hard)
    r.setrlimit(what, (most, most))
os.execv(sys.argv[2], sys.argv[2:])
"""
_CHOOSE = """
import sys
try:
    import pytest
except ImportError:
    import unittest
    unittest.main(None, argv=["unittest", "discover", "-s", sys.argv[1], "-t", sys.argv[1], "-v"])
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[1]]))
"""


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Where and how tests run.

    Attributes:
        environments: Folder of Python environments.
        index: How to reach a package index.
        pythons: Interpreters to choose from.
        seconds: That tests may take, the environment apart.
    """

    environments: Path
    index: IndexSettings
    pythons: tuple[str, ...] = ()
    seconds: int = 300


def try_out(bundle: Path, manifest: ExtensionManifest, laboratory: Laboratory,
            progress: Callable[[str], None]) -> Check:
    """Run the tests of an unpacked bundle.

    Args:
        bundle: The folder; it is copied, so that tests cannot change what is judged.
        manifest: Of the bundle.
        laboratory: Where to run them.
        progress: Told what happens.
    """
    if not any((bundle / TESTS).rglob("test_*.py")):
        return Check(name="tests", outcome="skipped", text=f"The bundle has no tests in {TESTS}/.")
    try:
        python = _python(bundle, manifest, laboratory, progress)
    except PluginError as error:
        return Check(name="tests", outcome="failed", text=f"Its environment cannot be built: {error.message}"[:4000])
    progress("running the bundle's tests")
    with tempfile.TemporaryDirectory(prefix="fuseml-review-", ignore_cleanup_errors=True) as home:
        work = Path(home) / "bundle"
        shutil.copytree(bundle, work)
        status, output = _run(python, work, Path(home), laboratory.seconds)
    if status is None:
        return Check(name="tests", outcome="failed", text=f"No end within {laboratory.seconds} s.\n{output}")
    return Check(name="tests", outcome="passed" if status == 0 else "failed", text=output)


def _python(bundle: Path, manifest: ExtensionManifest, laboratory: Laboratory,
            progress: Callable[[str], None]) -> Path:
    interpreter, _warning = find_python(None, laboratory.pythons)
    if manifest.environment is None:
        return interpreter
    progress("building the bundle's environment")
    lock = bundle / manifest.environment.lock
    wheels = [bundle / "wheels" / name for name in manifest.environment.wheels]
    return ensure_environment(laboratory.environments, lock=lock.read_text() if lock.is_file() else "",
                              python=interpreter, wheels=wheels, index=laboratory.index, timeout=1800.0).python


def _run(python: Path, work: Path, home: Path, seconds: int) -> tuple[int | None, str]:
    """Exit status, None after too long, and the end of the output."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home),
                   "PYTHONPATH": str(work / "files"), "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    command = [str(python), "-c", _GUARD, str(seconds), str(python), "-c", _CHOOSE, TESTS]
    log, others = home / "output", _adopt()
    with log.open("wb") as output, subprocess.Popen(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True) as process:
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process, others)
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _KEPT))
        return status, file.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes], others: set[int]) -> None:
    """Kill what the tests left running, too: everything in their session, and what left it to survive them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + _PATIENCE
    while (left := _children() - others) and time.monotonic() < deadline:
        for child in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)  # its own children are ours then
    _become_reaper(False)


def _adopt() -> set[int]:
    """Let orphans of whatever is started from here become children of this process; returns those there are now."""
    _become_reaper(True)
    return _children()


def _become_reaper(wanted: bool) -> None:
    """Say who gets orphans: this process or the first of the system. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SUBREAPER, int(wanted), 0, 0, 0)


def _children() -> set[int]:
    """Children of this process; none where there is no /proc."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found
