"""Plugins that speak with the host by hand, and badly: importing one of these classes takes over the socket."""

from __future__ import annotations

import json
import os
import socket
import threading
import time

GIB = 1 << 30
DESCRIPTION = json.dumps({"protocols": [1], "hooks": {
    name: {"idempotent": True} for name in ("agent_describe", "agent_submit", "agent_status", "agent_events",
                                            "agent_logs", "agent_cancel", "agent_collect")}}).encode()


class _Raw:
    def __init__(self):
        listener = socket.socket(fileno=os.dup(3))
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                time.sleep(0.01)
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setblocking(True)
        with connection:
            while data := connection.recv(1 << 20):
                if data.startswith(b"GET "):
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                                       % (len(DESCRIPTION), DESCRIPTION))
                else:
                    try:
                        self.answer(connection)
                    except OSError:
                        return
                    return


class Garbage(_Raw):
    def answer(self, connection):
        connection.sendall(b"\x16\x03\x01 this is no answer\n" * 10)
        time.sleep(5)


class HalfGarbage(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n")


class NoJson(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot json!")


class ClosesMidBody(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[")


class Announces2GiB(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * GIB))
        piece = b" " * (1 << 20)
        for _ in range(2048):
            connection.sendall(piece)


class Sends2GiB(_Raw):
    """Without saying how much, so that only counting helps."""

    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        piece = b" " * (1 << 20)
        for _ in range(2048):
            connection.sendall(piece)


class Chunks2GiB(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(2048):
            connection.sendall(piece)


class EndlessHead(_Raw):
    def answer(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"x: " + b"y" * 60_000 + b"\r\n")


class Drips(_Raw):
    """Each byte comes in time; the answer never does."""

    def answer(self, connection):
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b" " * 1_000_000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)


class Silent(_Raw):
    def answer(self, connection):
        time.sleep(3600)
