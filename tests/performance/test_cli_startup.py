"""Start-up of the command line beside bare Python, CPU time, in one run (DESIGN 10)."""

from __future__ import annotations

import os
import sys

import pytest

REPEAT = 12
pytestmark = pytest.mark.bench


def cpu(*arguments: str) -> float:
    """Smallest CPU time of several runs, in seconds."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("COV_")}
    best = float("inf")
    for _ in range(REPEAT):
        child = os.posix_spawn(sys.executable, [sys.executable, *arguments], env,
                               file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
        _, status, usage = os.wait4(child, 0)
        assert status == 0
        best = min(best, usage.ru_utime + usage.ru_stime)
    return best


@pytest.mark.parametrize(("argument", "limit"), [("--version", 3.0), ("--help", 6.0)])
def test_cli_startup_is_a_small_multiple_of_bare_python(argument: str, limit: float) -> None:
    code = "import sys; from fuseml_core.cli import main; sys.exit(main(sys.argv[1:]))"
    bare, ours = cpu("-c", "pass"), cpu("-c", code, argument)
    sys.stderr.write(f"\n{argument}: {ours * 1e3:.0f} ms, bare Python {bare * 1e3:.0f} ms, ratio {ours / bare:.1f}\n")
    assert ours <= limit * bare
