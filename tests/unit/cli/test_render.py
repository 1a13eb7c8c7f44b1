"""Tables, JSON and YAML."""

from __future__ import annotations

import json

import pytest
import yaml

from fuseml_core.cli.cells import bindings, duration, moment, size, span
from fuseml_core.cli.render import cell, echo, fields, show_item, show_list, table


def test_r183_tables_have_dashes_under_each_header_and_cells_of_several_lines() -> None:
    shown = table(["Pipeline/Run", "Inputs", "Outputs"], [
        ["training-pipeline/1", ["mlflow_code: code://myproj/myapp/f3b0924"], ["model: model://myproj/4c88e8f252be"]],
        ["serving-pipeline/1", ["model: model://myproj/4c88e8f252be", "predictor: sklearn (default)"], "url: http://x/predict"],
    ])
    assert shown.splitlines() == [
        "Pipeline/Run          Inputs                                     Outputs",
        "------------          ------                                     -------",
        "training-pipeline/1   mlflow_code: code://myproj/myapp/f3b0924   model: model://myproj/4c88e8f252be",
        "serving-pipeline/1    model: model://myproj/4c88e8f252be         url: http://x/predict",
        "                      predictor: sklearn (default)",
    ]


def test_r185_defaults_are_marked() -> None:
    assert bindings([{"name": "predictor", "value": "sklearn", "default": True}]) == ["predictor: sklearn (default)"]


def test_r184_short_addresses_are_shown() -> None:
    given = [{"name": "model", "address": "model://p/n@sha256:00", "short": "model://p/00"}]
    assert bindings(given) == ["model: model://p/00"]


def test_wide_characters_keep_columns_aligned() -> None:
    lines = table(["Name", "State"], [["模型", "ready"], ["ab", "ready"]]).splitlines()
    assert lines[2] == "模型   ready"
    assert lines[3] == "ab     ready"


def test_a_narrow_terminal_folds_the_widest_column() -> None:
    lines = table(["A", "B"], [["x" * 50, "y"]], width=30).splitlines()
    assert all(len(line) <= 30 for line in lines)
    assert "".join(line.split()[0] for line in lines[2:]) == "x" * 50


def test_addresses_are_folded_where_they_can_be_read() -> None:
    rows = [["model: model://quickstart/f6831b020b30"], ["predictor: sklearn (default)"]]
    lines = [line.rstrip() for line in table(["Inputs"], rows, width=28).splitlines()[2:]]
    assert lines == ["model: model://quickstart/", "f6831b020b30", "predictor: sklearn (default)"]


def test_output_that_is_no_terminal_is_never_folded() -> None:
    assert "x" * 500 in table(["A"], [["x" * 500]])


def test_control_characters_cannot_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\x1b[2Jb\r")
    assert capsys.readouterr().out == "a\ufffd[2Jb\ufffd\n"


def test_cells() -> None:
    item = {"a": {"b": 1}, "t": True, "n": None, "l": [1, 2], "m": {"k": "v"}, "e": []}
    assert [cell(item, of) for of in ("a.b", "t", "n", "l", "m", "e", "zzz.y")] == [
        "1", "yes", "-", ["1", "2"], ["k: v"], "-", "-"]


def test_nested_data_is_shown_as_an_outline() -> None:
    item = {"m": {"kinds": ["job", "service"], "none": {}, "on": True, "in": {"a": 1, "b": {"c": None}},
                  "steps": [{"name": "x", "of": ["y"]}, {"name": "z"}], "text": "one\ntwo"}}
    assert cell(item, "m") == [
        "kinds: job, service", "none: -", "on: true", "in:", "  a: 1", "  b:", "    c: -",
        "steps:", "  - name: x", "    of: y", "  - name: z", "text: one", "  two"]
    assert cell({"l": [{"a": 1, "b": 2}, "c"]}, "l") == ["- a: 1", "  b: 2", "c"]


def test_json_and_yaml_are_the_full_form(capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"address": "model://p/n@sha256:" + "0" * 64, "short": "model://p/0000000", "name": "ü"}]
    show_list(items, "json", [("Address", "short")])
    assert json.loads(capsys.readouterr().out) == items
    show_list(items, "yaml", [("Address", "short")])
    assert yaml.safe_load(capsys.readouterr().out) == items
    show_list([], "json", [], empty="nothing")
    assert capsys.readouterr() == ("[]\n", "")


def test_an_empty_table_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_list([], "table", [("Name", "name")], empty="There are no projects.")
    assert capsys.readouterr() == ("", "There are no projects.\n")


def test_items_show_only_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    show_item({"name": "x", "state": ""}, "table", [("Name", "name"), ("State", "state")])
    assert capsys.readouterr().out == "Name:  x\n"
    assert fields([("A", ["1", "2"]), ("Long", "3")]) == "A:     1\n       2\nLong:  3"


def test_times_and_sizes() -> None:
    assert moment("") == ""
    assert moment("nonsense") == ""
    assert len(moment("2026-01-02T03:04:05Z")) == 19
    assert moment(0) == moment("1970-01-01T00:00:00+00:00")
    assert duration({"started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:05:06.5Z"}) == "1 min 1 s"
    assert duration({}) == ""
    assert [span(s) for s in (0.04, 59.9, 60, 7200)] == ["0.0 s", "59.9 s", "1 min 0 s", "2 h 0 min"]
    assert [size(n) for n in (None, 0, 1024, 5 << 30)] == ["", "0 B", "1.0 KiB", "5.0 GiB"]
