"""CORE31 to CORE38: starting, ending, crashing and going on."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from fuseml_sdk.contract import operations
from fuseml_sdk.errors import PluginError
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.exchanges import HttpExchange
from fuseml_sdk.testing.expectations import expect, until
from fuseml_sdk.testing.faults import hang, oom
from fuseml_sdk.testing.hosts import DRAIN_SECONDS
from fuseml_sdk.testing.processes import PluginProcess, group_members
from fuseml_sdk.testing.rules import NotApplicable, Rulebook, Violation
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.testing.tours import tour

BOOK = Rulebook()
_GRACE = 10.0
#: Seconds without a change after which a plugin counts as at rest.
_REST = 0.3


@BOOK.rule("CORE31", "Told to stop, it ends in order, in time.", needs=["process"],
           why="A plugin that does not end is killed, with whatever it was writing.",
           fix="Let fuseml_shutdown release what the plugin holds, without waiting for others; exit code is 0.")
def _ends_in_order(bench: Bench) -> None:
    with bench.fresh() as plugin:
        tour(bench, plugin)
        _terminate(plugin)


@BOOK.rule("CORE32", "Told to stop, it still answers the calls that it has.", needs=["process"],
           why="An upgrade replaces the process while calls run; none of them may fail.",
           fix="Do not end the process yourself on SIGTERM: the runtime finishes calls first. Events return when they "
               "have waited for long enough.")
def _finishes_calls(bench: Bench) -> None:
    with bench.fresh() as plugin:
        hook, arguments = _lasting_call(bench)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DRAIN_SECONDS + _GRACE)
        with connection:
            assert isinstance(plugin.exchange, HttpExchange)
            connection.connect(urlsplit(plugin.exchange.address).path)
            # The first call makes sure that the connection has been accepted.
            _send(connection, f"{hook.partition('_')[0]}_describe", {})
            _status(connection)
            _send(connection, hook, arguments)
            _process(plugin).terminate()
            found = _status(connection)
            expect(found == "200", f"after SIGTERM {hook} was answered with status {found or 'none: it was cut off'}")
        _wait(plugin)


@BOOK.rule("CORE33", "When its host is gone, so is it, with all its children.", needs=["process"],
           why="Processes that nobody looks after any more keep ports, files and memory.",
           fix="Leave file descriptor 4 alone, and start no children in sessions of their own unless they are "
               "workloads.")
def _follows_its_host(bench: Bench) -> None:
    with bench.fresh() as plugin:
        tour(bench, plugin)
        process = _process(plugin)
        process.let_go()
        _wait(plugin)
        until(lambda: not group_members(process.pid), _GRACE,
              lambda: f"processes {group_members(process.pid)} of its group still run")


@BOOK.rule("CORE34", "Ended in order, it leaves no processes behind.", needs=["process"],
           why="What is left of a former version works against the next one.",
           fix="End in fuseml_shutdown what you started.", level="silver")
def _leaves_no_orphans(bench: Bench) -> None:
    with bench.fresh() as plugin:
        tour(bench, plugin)
        _process(plugin).terminate()
        _wait(plugin)
        group = _process(plugin).pid
        until(lambda: not group_members(group), _GRACE, lambda: f"processes {group_members(group)} still run")


@BOOK.rule("CORE35", "After kill -9 it starts again over the same state.", needs=["process", "restart"],
           why="Machines lose power and memory; nobody is there to repair the state directory.",
           fix="Write files whole (fuseml_sdk.durable), and remove what is half-made when you start.")
def _survives_kill(bench: Bench) -> None:
    with bench.killed(lambda plugin: tour(bench, plugin)) as (plugin, _):
        ready = plugin.document("GET", "/readyz")
        expect(ready.get("status") == "ready", f"/readyz answered {ready}")


@BOOK.rule("CORE36", "Callers that go away in the middle do no harm.", needs=["process"], level="silver",
           why="Every deadline that passes ends a connection; the plugin must go on for others.",
           fix="Do not keep locks while you write an answer; leave connections to the runtime.")
def _outlives_callers(bench: Bench) -> None:
    plugin = bench.plugin
    family = bench.families[0]
    exchange = plugin.exchange
    assert isinstance(exchange, HttpExchange)
    for _ in range(20):
        connection = exchange.connection(5.0)
        connection.request("POST", operations()[f"{family}_describe"].route, b"{}")
        connection.close()
    plugin.call(f"{family}_describe")


@BOOK.rule("CORE37", "It keeps no file open for every call.", needs=["process"], level="silver",
           why="After some thousand calls no file can be opened any more, and every call fails.",
           fix="Open files and connections in `with` blocks.")
def _keeps_few_files(bench: Bench) -> None:
    plugin = bench.plugin
    folder = Path(f"/proc/{_process(plugin).pid}/fd")
    if not folder.is_dir():
        raise NotApplicable("open files of a process can be counted on Linux only")
    tour(bench, plugin)
    # Connections that have just been closed are counted until their threads have ended.
    before = _fewest(folder)
    for _ in range(6):
        tour(bench, plugin)
    until(lambda: _count(folder) <= before + 4, _GRACE,
          lambda: f"it had {before} files open, and {_count(folder)} after six more rounds of calls")


@BOOK.rule("CORE38", "It goes on after it stood still, or had too little memory.", needs=["process"], level="gold",
           why="Machines that swap stop processes for seconds; memory is scarce when many workloads run.",
           fix="Do not measure time by counting; let MemoryError end the call, and do not retry in a loop.")
def _goes_on(bench: Bench) -> None:
    family = bench.families[0]
    with bench.fresh() as plugin:
        with hang(plugin):
            time.sleep(0.2)
        plugin.call(f"{family}_describe")
        try:
            with oom(plugin), contextlib.suppress(PluginError):
                plugin.call(f"{family}_describe", seconds=10.0)
        except FileNotFoundError:
            raise NotApplicable("memory of another process can be limited on Linux only") from None
        until(lambda: _ended(plugin) or _answers(plugin, family), 30.0,
              lambda: "after it had too little memory for a moment it neither answers nor ends")


def _ended(plugin: ServedPlugin) -> bool:
    return _process(plugin).poll() is not None


def _answers(plugin: ServedPlugin, family: str) -> bool:
    try:
        plugin.call(f"{family}_describe", seconds=5.0)
    except PluginError:
        return False
    return True


def _lasting_call(bench: Bench) -> tuple[str, dict[str, object]]:
    """A call that takes a while, if the plugin has such a one."""
    for hook in ("store_events", "agent_events"):
        if hook in bench.hooks:
            return hook, {"cursor": "", "wait": 1.0}
    return f"{bench.families[0]}_describe", {}


def _send(connection: socket.socket, hook: str, arguments: dict[str, object]) -> None:
    body = json.dumps(arguments).encode()
    head = f"POST {operations()[hook].route} HTTP/1.1\r\nhost: plugin\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def _status(connection: socket.socket) -> str:
    """Read one response and return its status; empty when the connection ends first."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            block = connection.recv(65536)
        except OSError:
            return ""
        if not block:
            return ""
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0) and (block := connection.recv(65536)):
        body += block
    return head.split(b" ", 2)[1].decode()


def _fewest(folder: Path) -> int:
    """How many files are open once it has come to rest."""
    fewest, since = _count(folder), time.monotonic()
    while time.monotonic() - since < _REST:
        time.sleep(0.02)
        found = _count(folder)
        if found < fewest:
            fewest, since = found, time.monotonic()
    return fewest


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _terminate(plugin: ServedPlugin) -> None:
    _process(plugin).terminate()
    code = _wait(plugin)
    expect(code == 0, f"after SIGTERM it ended with exit code {code}: {plugin.written()[-500:]}")


def _wait(plugin: ServedPlugin) -> int:
    try:
        return _process(plugin).wait(DRAIN_SECONDS + _GRACE)
    except subprocess.TimeoutExpired:
        raise Violation(f"it still runs {DRAIN_SECONDS + _GRACE:g} s later") from None


def _process(plugin: ServedPlugin) -> PluginProcess:
    assert plugin.process is not None
    return plugin.process
