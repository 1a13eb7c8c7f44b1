"""What plugins write and answer to harm whoever reads it: the host, its files, a terminal."""

from __future__ import annotations

import logging
import os
import socket
import threading

import pytest

from fuseml_core.adapters.development import HostedDevelopment
from fuseml_core.adapters.plugin_logs import read_log
from fuseml_core.domain.errors import Invalid
from fuseml_core.domain.names import LABEL
from fuseml_core.host import Component, PluginHost
from fuseml_core.host.crashes import CrashLog, CrashReport
from fuseml_core.host.endpoints import endpoint
from fuseml_core.host.output import OutputCapture
from fuseml_core.host.streams import UnixStream
from fuseml_core.host.transport import ConnectionPool
from fuseml_core.launcher.process import FactFormatter
from fuseml_core.service.development import Developed, DevelopedComponent
from fuseml_sdk.errors import Internal, NotReady, Permanent
from fuseml_sdk.manifest import NAME, SEMVER


def _written(raw, path):
    read, write = os.pipe()
    capture = OutputCapture(read, path, "store/toy[1]")
    with os.fdopen(write, "wb") as pipe:
        pipe.write(raw)
    capture.wait(30)
    return capture.tail(50)


def test_r134_escape_sequences_of_a_plugin_reach_neither_log_nor_report(tmp_path):
    tail = _written(b"\x1b[31mred\x1b[0m\n\x1b]0;title\x07\x1b[2Jgone\rover\n\xc2\x9b2J\ttab\n", tmp_path / "log")
    bad = "\N{REPLACEMENT CHARACTER}"
    assert tail == ["red", f"{bad}]0;title{bad}{bad}[2Jgone{bad}over", f"{bad}2J\ttab"]
    assert "\x1b" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0c", "\x1e", "\r"])
def test_r134_a_plugin_cannot_write_lines_of_another(end, tmp_path):
    path = tmp_path / "log"
    _written(f"mine{end}2026-01-01T00:00:00Z store/other[2] forged\n".encode(), path)
    assert read_log(path, "store/other", "", 1000)["text"] == ""
    assert "mine" in read_log(path, "store/toy", "", 1000)["text"]


def test_r134_lines_of_a_log_are_told_by_line_feeds_alone(tmp_path):
    path = tmp_path / "log"
    path.write_text("x store/toy[1] one\u2028x store/other[2] forged\n")
    assert read_log(path, "store/other", "", 1000)["text"] == ""


@pytest.mark.parametrize("cursor", ["²:1", "1:²", "1" * 5000 + ":1", "1"])
def test_a_cursor_that_is_none_is_refused(cursor, tmp_path):
    (tmp_path / "log").touch()
    with pytest.raises(Invalid, match="not a cursor"):
        read_log(tmp_path / "log", "store/toy", cursor, 100)


def test_r134_a_crash_is_remembered_whatever_the_plugin_wrote(tmp_path):
    report = CrashReport(1.0, "exit code 1", output=("a\u2028b\x85c\x0cd\ud800",), component="store/toy")
    CrashLog(tmp_path / "crashes").add(report)
    assert CrashLog(tmp_path / "crashes").of("store/toy") == (report,)


def test_r133_answers_that_cannot_be_read_leave_no_connection_open(tmp_path):
    path = tmp_path / "s"
    served, gone = socket.socket(socket.AF_UNIX), []

    def answer():
        for _ in range(3):
            connection, _ = served.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: " + b"1" * 5000 + b"\r\n\r\n")
                connection.settimeout(30)
                gone.append(connection.recv(1))

    with served:
        served.bind(str(path))
        served.listen()
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        pool = ConnectionPool(lambda seconds: UnixStream(path, seconds))
        for _ in range(3):
            with pytest.raises(Internal, match="at most"):
                pool.request("GET", "/", None, {}, 30)
        thread.join(30)
    assert gone == [b""] * 3, "the host closes what it does not use again"


def test_r133_a_token_with_a_line_break_is_refused():
    with pytest.raises(Permanent, match="characters that no bearer token has"):
        endpoint("https://plugin.test", extension="toy", token="secret\n")


def test_r134_what_a_plugin_wrote_stays_in_the_line_and_off_the_terminal_of_the_servers_log():
    record = logging.makeLogRecord({"msg": "failed", "cause": "\x1b[2J", "hint": "a\u2028b\x9b\nc", "name": "plain"})
    assert FactFormatter("%(message)s").format(record) == r'failed cause="\u001b[2J" hint="a\u2028b\u009b\nc"'


@pytest.mark.parametrize("pattern", [NAME, LABEL, SEMVER])
def test_names_and_versions_end_with_the_text(pattern):
    assert pattern.match("1.2.3" if pattern is not NAME else "toy")
    assert not pattern.match("1.2.3\n" if pattern is not NAME else "toy\n")


@pytest.mark.parametrize("address", ["unix:/a\0b", "unix:/a\ud800", "unix:/nothing/there"])
def test_a_socket_that_cannot_be_is_not_developed(address, tmp_path):
    developed = Developed("toy", "1.0.0", (DevelopedComponent("store", "toy", address),))
    host = PluginHost(runtime_dir=tmp_path / "run", log_dir=tmp_path / "logs")
    with pytest.raises(Invalid, match="there is no socket"):
        HostedDevelopment(host, tmp_path).put(developed)
    assert host.registered() == []


def test_r133_a_component_starts_when_there_is_room_for_threads_again(tmp_path, monkeypatch):
    component = Component(id="toy", extension="toy", version="1.0.0", digest="", family="store", name="toy",
                          plugin="no_such_module:Toy", hosting="subprocess", config={}, state_dir=tmp_path / "state",
                          python=tmp_path / "nothing")
    host = PluginHost(runtime_dir=tmp_path / "run", log_dir=tmp_path / "logs", idle_seconds=None)
    host.add(component)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(NotReady, match="can't start new thread"):
            host.call("toy", "store_describe", {}, 5)
    with pytest.raises(Permanent, match="No such file"):
        host.call("toy", "store_describe", {}, 30)
    host.shutdown()
