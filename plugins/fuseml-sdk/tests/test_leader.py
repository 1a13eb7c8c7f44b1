"""Who answers what: quick hooks in the leader's thread, others beside it, whoever does not come back is replaced."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from fuseml_sdk import calls
from fuseml_sdk.quickness import IN_A_ROW
from fuseml_sdk.serve.server import Server
from fuseml_sdk.serve.wire import Response

HOOK = "/v1/hooks/store_get"


class Plugin:
    """Answers with its thread's name; what the body asks for is done first."""

    def __init__(self):
        self.release = threading.Event()
        self.entered = threading.Event()
        self.cancelled = []

    def respond(self, request, started):
        wish = json.loads(request.body or b"{}")
        if wish.get("hang"):
            call = calls.Call()
            started(call)
            self.entered.set()
            if wish["hang"] == "until cancelled":
                call.wait(30)
                self.cancelled.append(call.cancelled)
            else:
                self.release.wait(30)
        time.sleep(wish.get("sleep", 0.0))
        return Response(200, json.dumps({**wish, "thread": threading.current_thread().name}).encode())


@contextmanager
def served(folder, plugin):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen(64)
    server = Server(listener, plugin.respond)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        plugin.release.set()
        server.stop()
        thread.join(30)
        assert server.drain(30)
        listener.close()


class Client:
    def __init__(self, folder):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(folder / "s"))
        self.stream = self.socket.makefile("rb")

    def send(self, wish, path=HOOK):
        body = json.dumps(wish).encode()
        return f"POST {path} HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def receive(self):
        length = 0
        assert self.stream.readline() == b"HTTP/1.1 200 OK\r\n"
        while (line := self.stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name == b"content-length" else length
        return json.loads(self.stream.read(length))

    def ask(self, path=HOOK, **wish):
        self.socket.sendall(self.send(wish, path))
        return self.receive()

    def close(self):
        self.stream.close()
        self.socket.close()


@pytest.fixture
def plugin():
    return Plugin()


@pytest.fixture
def client(tmp_path, plugin):
    """A client of a server whose hook has become quick."""
    with served(tmp_path, plugin):
        it = Client(tmp_path)
        _until(lambda: it.ask()["thread"] == "fuseml-leader")
        yield it
        it.close()


def _until(holds):
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until


def test_a_hook_that_was_quick_some_times_in_a_row_is_answered_by_the_leader(tmp_path, plugin):
    with served(tmp_path, plugin):
        client = Client(tmp_path)
        threads = [client.ask()["thread"] for _ in range(IN_A_ROW)]
        assert set(threads) == {"fuseml-hook"}
        _until(lambda: client.ask()["thread"] == "fuseml-leader")
        assert client.ask(path="/v1/hooks/store_events")["thread"] == "fuseml-hook"
        client.close()


def test_slow_hooks_run_beside_each_other(tmp_path, plugin):
    with served(tmp_path, plugin):
        clients = [Client(tmp_path) for _ in range(8)]
        for client in clients:
            client.socket.sendall(client.send({"hang": "until released"}))
        other = Client(tmp_path)
        assert other.ask(sleep=0.05)["thread"] == "fuseml-hook"
        plugin.release.set()
        assert [client.receive()["hang"] for client in clients] == ["until released"] * 8
        for client in (*clients, other):
            client.close()


def test_a_leader_that_does_not_come_back_is_replaced(tmp_path, plugin, client):
    client.socket.sendall(client.send({"hang": "until released"}))
    assert plugin.entered.wait(30)
    other = Client(tmp_path)
    assert other.ask()["thread"] == "fuseml-hook"  # it has to show again that it is quick
    _until(lambda: other.ask()["thread"] == "fuseml-leader")  # another one of this name: the first one hangs
    plugin.release.set()
    assert client.receive()["thread"] == "fuseml-leader"
    _until(lambda: client.ask()["thread"] == other.ask()["thread"] == "fuseml-leader")
    other.close()


def test_a_caller_that_leaves_a_leader_that_hangs_cancels_the_call(tmp_path, plugin, client):
    first = Client(tmp_path)
    first.socket.sendall(first.send({"hang": "until cancelled"}))
    assert plugin.entered.wait(30)
    assert client.ask()["thread"] == "fuseml-hook"
    first.close()
    _until(lambda: plugin.cancelled == [True])


def test_leaders_are_replaced_again_and_again(tmp_path, plugin, client):
    for _ in range(5):
        _until(lambda: client.ask()["thread"] == "fuseml-leader")
        assert client.ask(sleep=0.05)["sleep"] == 0.05
    _until(lambda: sum(each.name == "fuseml-leader" for each in threading.enumerate()) == 1)


def test_requests_in_one_piece_or_in_many_get_their_own_answers_in_order(tmp_path, plugin, client):
    rolls = random.Random(4)
    wishes = [{"n": n, "sleep": rolls.choice([0, 0, 0, 0.002, 0.03])} for n in range(60)]
    raw = b"".join(client.send(wish) for wish in wishes)

    def send():
        start = 0
        while start < len(raw):
            end = start + rolls.choice([1, 10, 200, 2000])
            client.socket.sendall(raw[start:end])
            start = end

    thread = threading.Thread(target=send)
    thread.start()
    assert [client.receive()["n"] for _ in wishes] == list(range(60))
    thread.join(30)


def test_many_callers_of_hooks_of_all_speeds_get_their_own_answers(tmp_path, plugin, client):
    wrong = []

    def call(number):
        mine, rolls = Client(tmp_path), random.Random(number)
        for turn in range(100):
            wish = {"n": f"{number}-{turn}", "sleep": rolls.choices([0, 0.0015, 0.025], [94, 4, 2])[0]}
            if mine.ask(**wish)["n"] != wish["n"]:
                wrong.append(wish)
            if rolls.random() < 0.05:
                mine.close()
                mine = Client(tmp_path)
        mine.close()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert client.ask(n="last")["n"] == "last"


def test_the_leader_is_looked_after_again_after_a_rest(tmp_path, plugin):
    with served(tmp_path, plugin) as server:
        client, other = Client(tmp_path), Client(tmp_path)
        _until(lambda: client.ask()["thread"] == "fuseml-leader")
        _until(lambda: server._leader.unwatched)
        client.socket.sendall(client.send({"hang": "until released"}))
        assert plugin.entered.wait(30)
        assert other.ask(n=1)["n"] == 1
        plugin.release.set()
        assert client.receive()["hang"]
        client.close()
        other.close()
