"""The progress of transfers, on a terminal and in a log."""

from __future__ import annotations

import io
import sys

import pytest

from fuseml_core.cli.bars import bar_text, transfer
from fuseml_oci.progress import Meter, Moved, lines
from fuseml_sdk.errors import Cancelled

HALF = Moved(1, 3, 4 << 20, 8 << 20)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_says_how_much_of_what_is_done_and_how_fast() -> None:
    assert bar_text("copying", HALF, 2) == f"copying [{'#' * 12}{' ' * 12}] 1 of 3, 4.0 MiB of 8.0 MiB, 2.0 MiB/s"
    assert bar_text("copying", Moved(0, 0, 0, 0), 0).startswith(f"copying [{'#' * 24}] 0 of 0")


def test_a_terminal_gets_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with transfer("pushing") as report:
        report(HALF)
        report(Moved(3, 3, 8 << 20, 8 << 20))
    assert screen.getvalue().count("\r") == 2
    assert screen.getvalue().count("\n") == 1
    with transfer("pushing"):
        pass
    assert screen.getvalue().count("\n") == 1, "nothing was moved, nothing is drawn"


def test_a_log_gets_whole_lines_and_not_many(capsys: pytest.CaptureFixture[str]) -> None:
    with transfer("pushing") as report:
        for _ in range(50):
            report(HALF)
    assert capsys.readouterr().err == "pushing 2 of 3 (4.0 MiB of 8.0 MiB)\n"
    assert lines("x", None) is None


def test_a_meter_adds_up_what_several_move_and_stops_them() -> None:
    moments: list[Moved] = []
    meter = Meter(moments.append)
    meter.expect(3, 60)
    first, second, third = meter.blob(), meter.blob(), meter.blob()
    first(10)
    second(5)
    first(0)  # sent again
    meter.finished(first, 20)
    meter.skipped(third, 30)
    meter.finished(second, 10)
    assert moments[-1] == Moved(2, 2, 30, 30)
    meter.stop()
    with pytest.raises(Cancelled):
        first(1)
