"""Who may call: bearer tokens on TCP, for the ASGI runtime and a program without the SDK; how the former is started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("sdk_wire_peers", Path(__file__).with_name("wire_peers.py"))
peers = sys.modules.setdefault("sdk_wire_peers", importlib.util.module_from_spec(_spec))
if not hasattr(peers, "serving"):
    _spec.loader.exec_module(peers)


@pytest.fixture(params=["asgi", "node"])
def guarded(request):
    """A program that asks for the token `first`, and the file that it is in."""
    folder = Path(tempfile.mkdtemp(prefix="fz-"))
    token = folder / "token"
    token.write_text("first\n")
    with peers.serving(request.param, folder, token_file=token) as peer:
        yield peer, token
    shutil.rmtree(folder)


def _status(peer, authorization=None, path="/v1/describe", method="GET", body=None):
    return peer.ask(method, path, body, {"authorization": authorization} if authorization else None)


def test_only_who_bears_the_token_is_let_in(guarded):
    peer, token = guarded
    for wrong in (None, "Bearer", "Bearer second", "Basic first", "first", "Bearer first2", "Bearer ü"):
        found = _status(peer, wrong)
        assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer"), wrong
        assert found.json["type"] == "permanent"
        assert "first" not in found.body.decode()
    assert _status(peer, "Bearer first").status == 200
    assert _status(peer, "bearer first").status == 200
    assert _status(peer, None, "/v1/hooks/agent_status", "POST", {"names": ["a"]}).status == 401
    token.write_text("second")
    assert _status(peer, "Bearer first").status == 401
    assert _status(peer, "Bearer second").status == 200


def test_a_lost_token_lets_nobody_in(guarded):
    peer, token = guarded
    token.write_text("\n")
    assert _status(peer, "Bearer ").status == 401
    token.unlink()
    assert _status(peer, "Bearer first").status in (401, 500)
    assert _status(peer).status in (401, 500)


def test_probes_need_no_token_and_learn_nothing(guarded):
    peer, _ = guarded
    assert peer.ask("GET", "/healthz").status == 200
    found = peer.ask("GET", "/readyz")
    assert (found.status, found.json["status"]) == (200, "ready")
    assert not found.json.get("facts")


def test_strangers_cannot_make_it_read_much(guarded):
    """The refusal comes before a large body does."""
    peer, _ = guarded
    with peer.connect() as connection:
        connection.sendall(peers.request("POST", "/v1/hooks/agent_status", None, {"content-length": str(32 << 20)}))
        found = peers.answer(connection)
    assert (found.status, found.headers["connection"]) == (401, "close")


@pytest.mark.parametrize(("arguments", "words"), [
    (["--asgi", "0.0.0.0:0"], "everybody who reaches 0.0.0.0:0 could call the plugin"),
    (["--asgi", "here"], "is not HOST:PORT"),
    (["--asgi", "127.0.0.1:99999"], "is not HOST:PORT"),
    (["--asgi", "127.0.0.1:0", "--token-file", "/nowhere/token"], "No such file"),
])
def test_what_would_be_careless_is_refused_at_the_start(tmp_path, arguments, words):
    done = subprocess.run([sys.executable, "-m", "fuseml_sdk.serve", "wire_toy:Agent", *arguments], cwd=tmp_path,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=peers.PATIENCE,
                          env={"PATH": os.environ["PATH"]})
    assert done.returncode == 2
    assert words in done.stderr


def test_an_empty_token_is_refused_at_the_start(tmp_path):
    (tmp_path / "token").write_text(" \n")
    done = subprocess.run([sys.executable, "-m", "fuseml_sdk.serve", "wire_toy:Agent", "--asgi", "127.0.0.1:0",
                           "--token-file", str(tmp_path / "token")], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=peers.PATIENCE, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, "is empty" in done.stderr) == (2, True)
