"""Accepts connections on a socket that somebody else owns, one thread each, and drains them when told to stop."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from fuseml_sdk.calls import Call
from fuseml_sdk.serve import wire
from fuseml_sdk.serve.application import problem, refusal
from fuseml_sdk.serve.hangups import Hangups

#: Answers a request; tells the call that it serves, so that it can be cancelled.
Responder = Callable[[wire.Request, Callable[[Call], None]], wire.Response]
#: Connections served at once; more wait in the kernel's queue.
MAX_CONNECTIONS = 128


class Server:
    """Serves one listening socket until :meth:`stop` is called.

    Args:
        listener: Bound and listening; it stays open, because its owner may hand it to the next process.
        respond: Answers one request; must not raise.
    """

    def __init__(self, listener: socket.socket, respond: Responder) -> None:
        # Non-blocking, because a process that starts while another drains accepts from the same queue.
        listener.setblocking(False)
        self._listener = listener
        self._respond = respond
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._stopping = False
        self._lock = threading.Condition()
        self._connections: dict[socket.socket, bool] = {}
        self._hangups = Hangups()

    def stop(self) -> None:
        """End :meth:`run` soon; safe to call from a signal handler, and more than once."""
        self._stopping = True
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return

    def run(self) -> None:
        """Accept connections until told to stop."""
        while not self._stopping:
            room = len(self._connections) < MAX_CONNECTIONS
            waited: list[Any] = [self._listener, self._wake_read] if room else [self._wake_read]
            ready, _, _ = select.select(waited, [], [], None if room else 0.05)
            if self._listener in ready and not self._stopping:
                self._accept()

    def drain(self, seconds: float) -> bool:
        """Let calls in flight finish and close idle connections.

        Returns:
            False if some calls were still running after `seconds`.
        """
        until = time.monotonic() + seconds
        with self._lock:
            for connection in self._connections:
                # What the client has sent already can still be read; after that the thread sees the end.
                _shutdown(connection, socket.SHUT_RD)
            while self._connections:
                left = until - time.monotonic()
                if left <= 0 or not self._lock.wait(left):
                    return not self._connections
        return True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors or memory: calls in flight will give some back.
            sys.stderr.write(f"fuseml_sdk.serve: no connection could be accepted: {error}\n")
            time.sleep(0.1)
            return
        with self._lock:
            self._connections[connection] = False
        try:
            threading.Thread(target=self._serve, args=(connection,), name="fuseml-connection", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            # No room for a thread: this caller is let down, the server goes on.
            sys.stderr.write(f"fuseml_sdk.serve: no thread could be started: {error}\n")
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.setblocking(True)
                requests = wire.Requests(connection)
                self._hangups.watch(connection)
                try:
                    while self._exchange(connection, requests):
                        pass
                finally:
                    self._hangups.forget(connection)
        except OSError:
            pass  # The client went away; it has its own report of that.
        except Exception:
            traceback.print_exc(file=sys.stderr)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
                self._lock.notify_all()

    def _exchange(self, connection: socket.socket, requests: wire.Requests) -> bool:
        try:
            request = requests.next()
        except wire.BadRequest as error:
            wire.send(connection, refusal(error).encode(keep_alive=False))
            return False
        if request is None:
            return False
        try:
            response = self._respond(request, lambda call: self._hangups.began(connection, call))
        except BaseException as error:
            response = problem(error)
        finally:
            self._hangups.ended(connection)
        keep = request.keep_alive and not self._stopping
        wire.send(connection, response.encode(keep_alive=keep))
        return keep


def _shutdown(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError:
        return
