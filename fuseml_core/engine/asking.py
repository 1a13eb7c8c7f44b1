"""Asking plugins without waiting for those that do not answer: other runs must not suffer from one that hangs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

#: What is to be done with an answer, in the thread of the loop.
Reaction = Callable[[], object]
#: Seconds that the loop waits for an answer it could use at once.
AT_ONCE = 1.0
#: Questions of one kind that may be open at the same time.
MOST_OPEN = 8


class Asking:
    """Asks each question in a thread of its own, and hands back what is to be done with the answer.

    Attributes:
        wake: Set when an answer came after its asker had stopped waiting.
    """

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._busy: dict[str, threading.Thread] = {}
        self._answers: queue.SimpleQueue[tuple[str, Reaction]] = queue.SimpleQueue()
        self._new: list[threading.Thread] = []
        #: Questions asked by :meth:`at_once` whose answers nobody has reacted to, and kinds of them that come late.
        self._open: dict[str, str] = {}
        self._late: set[str] = set()

    def ask(self, what: str, question: Callable[[], Reaction]) -> None:
        """Ask unless the same question is still without an answer.

        Args:
            what: Names the question.
            question: Calls the plugin and returns what to do with the answer; what it raises is raised again there.
        """
        thread = self._busy.get(what)
        if thread is not None and thread.is_alive():
            return
        self._new.append(self._begin(what, lambda: self._put(what, _reaction(question))))

    def at_once(self, what: str, question: Callable[[], Reaction], kind: str = "") -> object:
        """Ask, and do here what is to be done, if the answer comes soon; a late one waits among the others.

        The next question of a kind that was late is not waited for. Nothing is asked while the same question is open,
        or 8 of its kind.

        Args:
            what: Names the question.
            question: As for :meth:`ask`.
            kind: Of questions that are late together, such as those to one agent; by default `what`.

        Returns:
            What the reaction returned; None if there was none yet.
        """
        kind = kind or what
        if self.is_open(what) or list(self._open.values()).count(kind) >= MOST_OPEN:
            return None
        answer = _Answer()
        self._open[what] = kind

        def answered() -> None:
            began = time.monotonic()
            reaction = _reaction(question)
            if time.monotonic() - began < AT_ONCE:
                self._late.discard(kind)
            if not answer.give(reaction):
                self._put(what, reaction)

        try:
            self._begin(what, answered)
        except RuntimeError:  # the machine has no room for a thread now
            self._open.pop(what, None)
            raise
        reaction = answer.take(0.0 if kind in self._late else AT_ONCE)
        if reaction is None:
            self._late.add(kind)
            return None
        self._open.pop(what, None)
        return reaction()

    def is_open(self, what: str) -> bool:
        """Whether a question asked by :meth:`at_once` has no answer yet, or one that nobody has reacted to."""
        return what in self._open

    @property
    def busy(self) -> int:
        """How many questions are still without an answer."""
        return sum(thread.is_alive() for thread in self._busy.values())

    def settle(self, patience: float) -> None:
        """Wait up to so many seconds for the answers to what :meth:`ask` asked since the last time."""
        until, threads, self._new = time.monotonic() + patience, self._new, []
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._busy = {what: thread for what, thread in self._busy.items() if thread.is_alive()}

    def answers(self) -> Iterator[tuple[str, Reaction]]:
        """What came in: the name of each question and what is to be done."""
        while True:
            try:
                what, reaction = self._answers.get_nowait()
            except queue.Empty:
                return
            self._open.pop(what, None)
            yield what, reaction

    def _begin(self, what: str, act: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=act, name=f"asking-{what}", daemon=True)
        self._busy[what] = thread
        thread.start()
        return thread

    def _put(self, what: str, reaction: Reaction) -> None:
        self._answers.put((what, reaction))
        self.wake.set()


class _Answer:
    """What to do with one answer, handed from the thread that asks to the loop as long as the loop waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._there = threading.Event()
        self._reaction: Reaction | None = None
        self._left = False

    def give(self, reaction: Reaction) -> bool:
        """Hand it over; False if nobody waits any more."""
        with self._lock:
            if self._left:
                return False
            self._reaction = reaction
        self._there.set()
        return True

    def take(self, patience: float) -> Reaction | None:
        """Wait for it, at most so many seconds; None if it did not come."""
        self._there.wait(patience)
        with self._lock:
            self._left = self._reaction is None
            return self._reaction


def _reaction(question: Callable[[], Reaction]) -> Reaction:
    try:
        return question()
    except BaseException as error:
        return _raising(error)


def _raising(error: BaseException) -> Reaction:
    def again() -> NoReturn:
        raise error

    return again
