"""When and how long to wait before asking again: full-jitter backoff within a budget of attempts and time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: Statuses that say "later": timeout, too many requests, and gateways or servers in trouble (RFC 9110, RFC 6585).
RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is.

    Attributes:
        attempts: Tries in all.
        base: Upper bound of the first wait in seconds; it doubles with every try.
        cap: Upper bound of any wait in seconds.
        budget: Seconds after the first try within which a new one may start.
    """

    attempts: int = 5
    base: float = 0.3
    cap: float = 10.0
    budget: float = 60.0


@dataclass(slots=True)
class Patience:
    """What is left of a policy during one operation."""

    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tried: int = 0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def again(self, retry_after: str | None = None) -> bool:
        """Wait if another try is allowed and say so.

        Args:
            retry_after: Value of the server's Retry-After header in seconds; dates are ignored.

        Returns:
            True after waiting; False if attempts or time are used up.
        """
        self.tried += 1
        if self.tried >= self.policy.attempts:
            return False
        ceiling = min(self.policy.cap, self.policy.base * 2.0 ** (self.tried - 1))
        wait = random.uniform(0, ceiling)  # noqa: S311 - spreads load, protects nothing
        if retry_after and retry_after.strip().isdigit():
            wait = max(wait, float(retry_after.strip()))
        if self.clock() - self.started + wait > self.policy.budget:
            return False
        self.sleep(wait)
        return True
