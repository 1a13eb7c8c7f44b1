"""The lines by which a plugin's process tells an author about the calls that it serves."""

from __future__ import annotations

import json

import pytest

from fuseml_sdk.serve.tracing import BEGUN, MARK, traced
from fuseml_sdk.serve.wire import Request, Response


def _call(hook: str, body: bytes = b"{}", answer: Response | None = None, wanted: str = "1") -> None:
    respond = traced(lambda _request: answer or Response(200, b"{}"), wanted)
    respond(Request("POST", f"/v1/hooks/{hook}", {"fuseml-call-id": "call-7"}, body))


def _documents(text: str) -> list[tuple[str, dict]]:
    lines = [(mark, json.loads(line.removeprefix(mark))) for line in text.splitlines()
             for mark in (BEGUN, MARK) if line.startswith(mark)]
    return [(mark, {key: value for key, value in found.items() if key not in ("at", "ms")}) for mark, found in lines]


def test_r168_a_call_is_told_when_it_begins_and_when_it_ends(capsys):
    problem = b'{"type": "https://fuseml.io/problems/not-found", "detail": "nothing there"}'
    _call("store_get", answer=Response(404, problem))
    assert _documents(capsys.readouterr().err) == [
        (BEGUN, {"number": 1, "hook": "store_get", "wait": 0.0}),
        (MARK, {"number": 1, "hook": "store_get", "outcome": "not-found", "message": "nothing there", "call": "call-7"})]


@pytest.mark.parametrize(("hook", "body", "wait"), [
    ("agent_events", b'{"cursor": "", "wait": 30}', 30.0), ("agent_events", b"no json", 0.0),
    ("agent_events", b"[]", 0.0), ("agent_events", b'{"wait": null}', 0.0), ("agent_submit", b'{"wait": 30}', 0.0)])
def test_how_long_a_call_may_wait_is_told_so_that_nobody_wonders(hook, body, wait, capsys):
    _call(hook, body)
    assert _documents(capsys.readouterr().err)[0][1]["wait"] == wait


def test_nothing_is_told_of_other_hooks_and_of_arguments(capsys):
    _call("store_get", b'{"secret": "hush"}', wanted="agent_*")
    _call("store_get", b'{"secret": "hush"}', wanted="")
    assert capsys.readouterr().err == ""
    _call("store_get", b'{"secret": "hush"}')
    assert "hush" not in capsys.readouterr().err
