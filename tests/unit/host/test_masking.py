"""Secrets that a plugin quotes without meaning to (R134)."""

from __future__ import annotations

import os

import pytest

from fuseml_core.host import Component, PluginHost
from fuseml_core.host.masking import Masking
from fuseml_core.host.output import OutputCapture
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import Permanent, PluginError

SECRET = "canary-\u00e9'7\\x"


class Careless:
    """A store that quotes its settings wherever it can."""

    @hookimpl
    def store_describe(self):
        raise Permanent(f"{SECRET} was refused", hint=f"not {SECRET}", details={SECRET: [SECRET, 1], "ok": "fine"})

    @hookimpl
    def store_get(self, ref):
        return {}[SECRET]


def test_r134_errors_of_a_plugin_do_not_quote_its_secrets(tmp_path):
    host = PluginHost(runtime_dir=tmp_path / "run", log_dir=tmp_path / "logs")
    host.add(Component(id="toy", extension="toy", version="1.0.0", digest="", family="store", name="toy",
                       plugin=f"{__name__}:Careless", hosting="in-process", state_dir=tmp_path / "state",
                       config={"token": SECRET, "name": "fine"}, secrets=frozenset({"token"})))
    try:
        with pytest.raises(PluginError) as caught:
            host.call("toy", "store_describe", {})
    finally:
        host.shutdown()
    error = caught.value
    assert (error.message, error.hint, str(error.args[0])) == ("*** was refused", "not ***", "*** was refused")
    assert error.details["***"] == ["***", 1]
    assert error.details["ok"] == "fine", "what is no secret is shown"


def test_r134_output_of_a_plugin_does_not_hold_its_secrets(tmp_path):
    read, write = os.pipe()
    masking = Masking([SECRET, {"key": "-----BEGIN\nabcdef\n-----END"}, 123456, "no", True, None])
    capture = OutputCapture(read, tmp_path / "log", "store/toy[1]", mask=masking.text)
    with os.fdopen(write, "wb") as pipe:
        pipe.write(f"{SECRET!r} {SECRET}\nabcdef\n123456 no True None\n{'x' * 1990}{SECRET}\n".encode())
    capture.wait(30)
    assert capture.tail(4) == ["\"***\" ***", "***", "*** no True None", "x" * 1990 + "***"]
    assert "canary" not in (tmp_path / "log").read_text()
