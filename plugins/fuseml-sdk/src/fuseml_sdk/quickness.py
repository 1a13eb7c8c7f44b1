"""Which hooks are so quick that handing them to another thread would cost more than they do; for hosts and runtimes."""

from __future__ import annotations

#: Seconds within which a call counts as quick, how many of them in a row a hook needs, and what ends its good name.
QUICK, IN_A_ROW, SLOW = 0.001, 8, 0.02
#: Ends of the names of hooks that wait by request, or that are asked for how the plugin is: quick or not by chance.
_NEVER = ("_events", "_describe", "_cancel", "fuseml_health")


class Quickness:
    """Remembers how long the calls of each hook took; safe to use from several threads."""

    def __init__(self) -> None:
        self._streaks: dict[str, int] = {}

    def has(self, hook: str) -> bool:
        """Whether the last calls of a hook were all quick."""
        return self._streaks.get(hook, 0) >= IN_A_ROW

    def note(self, hook: str, seconds: float) -> None:
        """Note how long a call took."""
        streak = self._streaks.get(hook, 0)
        if seconds < QUICK:
            if streak < IN_A_ROW and not hook.endswith(_NEVER):
                self._streaks[hook] = streak + 1
        elif streak < IN_A_ROW or seconds > SLOW:
            self.forget(hook)

    def forget(self, hook: str) -> None:
        """Have a hook show again that it is quick."""
        self._streaks.pop(hook, None)
