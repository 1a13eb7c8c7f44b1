"""What plugins and workloads write, as it reaches a terminal (R134)."""

from __future__ import annotations

import sys

import pytest

from fuseml_core.cli.errors import report
from fuseml_core.cli.logs import shown
from fuseml_core.domain.errors import Failed


@pytest.mark.parametrize(("terminal", "expected"), [
    (True, "\x1b[31mred\x1b[0m\r\t\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}\n"),
    (False, "\x1b[31mred\x1b[0m\r\t\x1b]0;title\x07\n"),
])
def test_r134_logs_change_nothing_on_a_terminal_but_colours(terminal, expected, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert shown("\x1b[31mred\x1b[0m\r\t\x1b]0;title\x07\n") == expected


def test_r134_errors_that_quote_a_plugin_hold_no_escape_sequence(capfd):
    report(Failed("it wrote \x1b[2Jthis", hint="see\x07"))
    said = capfd.readouterr().err
    assert "it wrote" in said
    assert "see" in said
    assert not set(said) & set("\x1b\x07")
