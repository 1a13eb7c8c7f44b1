"""Threads that run hooks and are used again; in a server they let a caller leave a hook that hangs."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

#: Threads kept waiting for work, and how many seconds.
KEPT, LINGER = 16, 30.0


class Job:
    """One function that runs in another thread; see :meth:`Workers.run`."""

    __slots__ = ("_act", "_context", "_done", "error", "result")

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._context = contextvars.copy_context()
        self._done = threading.Lock()
        self._done.acquire()
        self.result: object = None
        self.error: BaseException | None = None

    def wait(self, seconds: float | None) -> bool:
        """Wait until it has ended, for at most so many seconds. Returns whether it has."""
        if not self._done.acquire(timeout=-1 if seconds is None else seconds):
            return False
        self._done.release()
        return True

    def run(self) -> None:
        """Run it here."""
        try:
            self.result = self._context.run(self._act)
        except BaseException as error:
            self.error = error
        finally:
            self._done.release()


class Workers:
    """Threads that are used again. They never keep the program alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def run(self, act: Callable[[], object]) -> Job:
        """Run a function in a thread of its own and in a copy of this context, beginning now."""
        job = Job(act)
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            _Worker(self, job)
        else:
            worker.take(job)
        return job

    def rest(self, worker: _Worker) -> bool:
        """Note that a worker has nothing to do. Returns whether it shall wait for more."""
        with self._lock:
            if len(self._idle) >= KEPT:
                return False
            self._idle.append(worker)
            return True

    def dismiss(self, worker: _Worker) -> bool:
        """Take a worker off the list; False if it was just given work."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True


class _Worker:
    def __init__(self, owner: Workers, job: Job) -> None:
        self._owner = owner
        self._job: Job | None = job
        self._wake = threading.Lock()
        self._wake.acquire()
        threading.Thread(target=self._run, name="fuseml-hook", daemon=True).start()

    def take(self, job: Job) -> None:
        self._job = job
        self._wake.release()

    def _run(self) -> None:
        while self._job is not None:
            job, self._job = self._job, None
            # On the list before the caller wakes up, so that its next call finds this thread.
            job.run()
            del job
            if not self._owner.rest(self):
                return
            if not self._wake.acquire(timeout=LINGER) and self._owner.dismiss(self):
                return
            if self._job is None:
                self._wake.acquire()
