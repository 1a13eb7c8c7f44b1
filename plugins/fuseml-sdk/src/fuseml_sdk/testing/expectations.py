"""Short ways for a rule to ask, to compare what came of it, and to say what was seen when it is not what must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from fuseml_sdk.errors import PluginError
from fuseml_sdk.testing.rules import Violation

Made = TypeVar("Made")


def brief(value: Any) -> str:
    """A value in at most 200 characters, for sentences."""
    named = value.items() if isinstance(value, dict) else ()
    text = ", ".join(f"{name}={item!r}" for name, item in named) or repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def expect(holds: object, seen: str) -> None:
    """Say what was seen unless something holds."""
    if not holds:
        raise Violation(seen)


def expect_filled(about: object, *fields: str) -> None:
    """Say which fields of a description are empty, or are lists with an empty entry."""
    for field in fields:
        value = getattr(about, field)
        expect(value, f"{field} is empty")
        expect(isinstance(value, str) or all(value), f"{field} is {value!r}")


def expect_same(said: str, first: object, second: object) -> None:
    """Say both answers to the same question if they differ.

    Args:
        said: What stands before them, such as `store_describe answered`.
        first: The first answer.
        second: The second one.
    """
    shown = [each if isinstance(each, str) else brief(each) for each in (first, second)]
    expect(first == second, f"{said} {' and then '.join(shown)}")


def until(holds: Callable[[], Any], seconds: float, seen: Callable[[], str]) -> Any:
    """Look until something is true, and return it; say what was seen if it never is."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise Violation(seen())
        time.sleep(0.05)
    return value


@contextmanager
def within(seconds: float, asked: str = "") -> Iterator[None]:
    """Say how long a block took unless it took less than some seconds.

    Args:
        seconds: The limit.
        asked: What stands before it, such as `with wait=0.5`.
    """
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    expect(took < seconds, f"{asked} it took {took:.1f} s".lstrip())


def at_once(calls: Sequence[Callable[[], Made]], callers: int) -> tuple[list[Made], list[str]]:
    """Make calls from several threads.

    Args:
        calls: Each is called once.
        callers: How many threads there are.

    Returns:
        The answers, in the order of the calls, and errors of those that failed, with their types.
    """
    answers, failures = [], []
    with ThreadPoolExecutor(callers, thread_name_prefix="fuseml-testing") as pool:
        for made in [pool.submit(call) for call in calls]:
            try:
                answers.append(made.result())
            except PluginError as error:
                failures.append(f"{error.type}: {error}")
    return answers, failures
