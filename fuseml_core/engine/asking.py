"""Asking agents without waiting for those that do not answer: other runs must not suffer from one that hangs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

#: What is to be done with an answer, in the thread of the loop.
Reaction = Callable[[], object]


class Asking:
    """Asks each question in a thread of its own, and hands back what is to be done with the answer.

    Args:
        wake: Told when an answer came after its asker had stopped waiting.
    """

    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake
        self._busy: dict[str, threading.Thread] = {}
        self._answers: queue.SimpleQueue[tuple[str, Reaction]] = queue.SimpleQueue()
        self._new: list[threading.Thread] = []

    def ask(self, what: str, question: Callable[[], Reaction]) -> None:
        """Ask unless the same question is still without an answer.

        Args:
            what: Names the question.
            question: Calls the agent and returns what to do with the answer; what it raises is raised again there.
        """
        thread = self._busy.get(what)
        if thread is not None and thread.is_alive():
            return
        thread = threading.Thread(target=self._answer, args=(what, question), name=f"asking-{what}", daemon=True)
        self._busy[what] = thread
        self._new.append(thread)
        thread.start()

    @property
    def busy(self) -> int:
        """How many questions are still without an answer."""
        return sum(thread.is_alive() for thread in self._busy.values())

    def settle(self, patience: float) -> None:
        """Wait up to so many seconds for the answers to what was asked since the last time."""
        until, threads, self._new = time.monotonic() + patience, self._new, []
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._busy = {what: thread for what, thread in self._busy.items() if thread.is_alive()}

    def answers(self) -> Iterator[tuple[str, Reaction]]:
        """What came in: the name of each question and what is to be done."""
        while True:
            try:
                yield self._answers.get_nowait()
            except queue.Empty:
                return

    def _answer(self, what: str, question: Callable[[], Reaction]) -> None:
        try:
            reaction = question()
        except Exception as error:
            reaction = _raising(error)
        self._answers.put((what, reaction))
        self._wake.set()


def _raising(error: Exception) -> Reaction:
    def again() -> NoReturn:
        raise error

    return again
