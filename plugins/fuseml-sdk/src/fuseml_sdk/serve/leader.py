"""Answers what comes over many connections: quick hooks in one thread, all others in threads of their own.

Sixteen threads that each wait for their own request hand the interpreter to each other several times for every call,
and that costs more than a quick hook itself. So one thread, the leader, reads whatever connection has something to say
and answers it on the spot if the hook has shown to be quick. Another takes the lead when it does not come back.

Source: Schmidt, Stal, Rohnert, Buschmann, "Pattern-Oriented Software Architecture 2", Leader/Followers.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

from fuseml_sdk.calls import Call
from fuseml_sdk.quickness import Quickness
from fuseml_sdk.serve import wire
from fuseml_sdk.serve.application import problem, refusal
from fuseml_sdk.serve.hangups import Hangups
from fuseml_sdk.serve.workers import Workers

#: Answers a request; tells the call that it serves, so that it can be cancelled.
Responder = Callable[[wire.Request, Callable[[Call], None]], wire.Response]
#: Seconds after which a leader that has not come back from a hook is replaced.
PATIENCE = 0.01
#: Looks without anything to see, after which nobody looks until something happens.
_VAIN_LOOKS = 100
#: In the paths of hooks; other pages may take their time.
_HOOKS = "/hooks/"


class Connection:
    """One connection of a caller, and what has been read of it."""

    __slots__ = ("requests", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.requests = wire.Requests(connection)


class Turn:
    """What the leader is answering."""

    __slots__ = ("began", "call", "connection", "path", "replaced")

    def __init__(self, connection: Connection, path: str) -> None:
        self.connection = connection
        self.path = path
        self.began = time.monotonic()
        self.call: Call | None = None
        self.replaced = False


class Leader:
    """Serves connections until they end.

    Args:
        respond: Answers one request; must not raise.
        closed: Told each connection that has ended.
        busy: Called before a hook is answered while nobody looks after the leader; see :meth:`look`.
    """

    def __init__(self, respond: Responder, *, closed: Callable[[Connection], None], busy: Callable[[], None]) -> None:
        self._respond = respond
        self._closed = closed
        self._busy = busy
        self._selector = selectors.DefaultSelector()
        self._end_read, self._end_write = os.pipe()
        self._selector.register(self._end_read, selectors.EVENT_READ, None)
        self._hangups = Hangups()
        self._workers = Workers()
        self._quickness = Quickness()
        self._lock = threading.Lock()
        self._turn: Turn | None = None
        self._turns = 0
        self._seen = 0
        self._vain = _VAIN_LOOKS
        self._missing = False
        #: Whether nothing is kept alive any more.
        self.stopping = False
        #: Whether nobody looks after the leader.
        self.unwatched = True

    def start(self) -> None:
        """Begin to serve. Raises `RuntimeError` if no thread can be started."""
        threading.Thread(target=self._lead, name="fuseml-leader", daemon=True).start()

    def end(self) -> None:
        """End its thread, when it has nothing left to serve."""
        os.write(self._end_write, b"x")

    def add(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        try:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        except (OSError, ValueError):  # No more can be watched, or it has broken.
            self._close(connection)

    def look(self) -> bool:
        """Replace a leader that does not come back from a hook. To be called every :data:`PATIENCE` seconds.

        Returns:
            False if nothing was answered for some time, so that nobody needs to look until `busy` is called.
        """
        turn = self._turn
        if turn is not None and time.monotonic() - turn.began >= PATIENCE:
            self._replace(turn)
        if self._missing:
            try:
                self.start()
            except (RuntimeError, MemoryError):
                return True
            self._missing = False
        self._vain = 0 if turn is not None or self._turns != self._seen else self._vain + 1
        self._seen = self._turns
        self.unwatched = self._vain >= _VAIN_LOOKS
        # A turn that began just now may have seen that it was watched.
        if self.unwatched and self._turns != self._seen:
            self.unwatched, self._vain = False, 0
        return not self.unwatched

    def _replace(self, turn: Turn) -> None:
        with self._lock:
            if self._turn is not turn:
                return
            self._turn = None
            self._quickness.forget(turn.path)
            self._missing = True
            self._selector.unregister(turn.connection.socket)
            self._hangups.watch(turn.connection.socket)
            turn.replaced = True
            if turn.call is not None:
                self._hangups.began(turn.connection.socket, turn.call)

    # -- in the leader's thread ------------------------------------------------------------------------------------

    def _lead(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None or not self._attend(key.data):
                    return

    def _attend(self, connection: Connection) -> bool:
        """Read what a connection says, and answer it or have it answered. Returns whether this thread still leads."""
        requests = connection.requests
        try:
            is_open = requests.poll()
            if requests.empty:
                if not is_open:
                    self._close(connection)
                return True
            while not requests.empty and connection.socket.fileno() >= 0:
                request = self._next(requests)
                if request is None or not self._quickness.has(request.path):
                    self._selector.unregister(connection.socket)
                    self._hand_over(connection, request)
                    return True
                if not self._answer_here(connection, request):
                    return False
        except OSError:  # The client went away; it has its own report of that.
            self._close(connection)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self._close(connection)
        return True

    def _next(self, requests: wire.Requests) -> wire.Request | None:
        try:
            return requests.whole()
        except wire.BadRequest:  # It is read again by who answers it.
            return None

    def _hand_over(self, connection: Connection, request: wire.Request | None) -> None:
        try:
            self._workers.run(lambda: self._work(connection, request))
        except (RuntimeError, MemoryError) as error:
            # No room for a thread: this caller is let down, the server goes on.
            sys.stderr.write(f"fuseml_sdk.serve: no thread could be started: {error}\n")
            self._close(connection)

    def _answer_here(self, connection: Connection, request: wire.Request) -> bool:
        turn = self._turn = Turn(connection, request.path)
        self._turns += 1
        if self.unwatched:
            self._busy()
        keep = False
        try:
            keep = self._exchange(connection, request, lambda call: self._started(turn, call))
        finally:
            with self._lock:
                leads = self._turn is turn
                if leads:
                    self._turn = None
            if not leads:
                self._hangups.forget(connection.socket)
            if not keep:
                self._close(connection)
            elif not leads:
                self._work(connection, None)
        return leads

    def _started(self, turn: Turn, call: Call) -> None:
        """Note the call, for the case that it takes long, or has done so already."""
        turn.call = call
        if turn.replaced:
            self._hangups.began(turn.connection.socket, call)

    # -- in the thread of a hook that is not quick -----------------------------------------------------------------

    def _work(self, connection: Connection, request: wire.Request | None) -> None:
        """Answer a request that was read, and what else has arrived by then; afterwards the leader reads again."""
        keep = False
        try:
            keep = request is None or self._watched(connection, request)
            while keep and not connection.requests.empty:
                keep = self._watched(connection, connection.requests.next())
        except wire.BadRequest as error:
            keep = False
            with contextlib.suppress(OSError):
                wire.send(connection.socket, refusal(error).encode(keep_alive=False))
        except OSError:  # The client went away; it has its own report of that.
            keep = False
        except Exception:
            keep = False
            traceback.print_exc(file=sys.stderr)
        if keep:
            self.add(connection)
        else:
            self._close(connection)

    def _watched(self, connection: Connection, request: wire.Request) -> bool:
        self._hangups.watch(connection.socket)
        try:
            return self._exchange(connection, request, lambda call: self._hangups.began(connection.socket, call))
        finally:
            self._hangups.forget(connection.socket)

    # -- in either -------------------------------------------------------------------------------------------------

    def _exchange(self, connection: Connection, request: wire.Request, started: Callable[[Call], None]) -> bool:
        """Answer one request. Returns whether the connection is kept."""
        began = time.monotonic()
        try:
            response = self._respond(request, started)
        except BaseException as error:
            response = problem(error)
        if response.status == 200 and _HOOKS in request.path:
            self._quickness.note(request.path, time.monotonic() - began)
        keep = request.keep_alive and not self.stopping
        try:
            wire.send(connection.socket, response.encode(keep_alive=keep))
        except OSError:
            return False  # The client went away; it has its own report of that.
        return keep

    def _close(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.socket)
        connection.socket.close()
        self._closed(connection)
