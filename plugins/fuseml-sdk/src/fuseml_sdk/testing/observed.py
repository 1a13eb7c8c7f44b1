"""`python -m fuseml_sdk.testing.observed`: serves a plugin, and notes every place that it writes to."""

from __future__ import annotations

import os
import sys
from typing import Any

from fuseml_sdk.serve.__main__ import main as serve
from fuseml_sdk.testing.probe import meanings

#: Variable with the file that takes a line for each place.
REPORT = "FUSEML_TESTING_WRITES"


def main(arguments: list[str]) -> int:
    """Serve as `python -m fuseml_sdk.serve` does. Returns the exit code."""
    report = os.open(os.environ.pop(REPORT), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def hear(event: str, given: tuple[Any, ...]) -> None:
        for kind, what in meanings(event, given):
            if kind == "write":
                place = what if os.path.isabs(what) else os.path.join(os.getcwd(), what)  # noqa: PTH117, PTH118, PTH109
                os.write(report, os.fsencode(place.replace("\n", " ")) + b"\n")

    sys.addaudithook(hear)
    return serve(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
