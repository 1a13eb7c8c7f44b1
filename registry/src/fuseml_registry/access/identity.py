"""Who sends a request, and what a request needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Key in an ASGI scope under which the gate leaves who it is.
SCOPE_KEY = "fuseml_registry.identity"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request.

    Attributes:
        user: Name; empty is anonymous.
        method: `none` (no authentication here), `anonymous`, `basic`, `token`, or `failed` when the password was wrong.
        grants: What a token grants: repository -> actions; None when the rules decide.
        catalog: Whether a token grants the list of repositories.
    """

    user: str = ""
    method: str = "none"
    grants: Mapping[str, frozenset[str]] | None = None
    catalog: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs: actions in repositories, or the list of them.

    Attributes:
        actions: Repository -> actions.
        catalog: Whether it reads the list of repositories.
        login: Whether it only asks for credentials (the version check).
    """

    actions: Mapping[str, frozenset[str]] = field(default_factory=dict)
    catalog: bool = False
    login: bool = False

    def scope(self) -> str:
        """Return it as the docker token specification writes it."""
        if self.catalog:
            return "registry:catalog:*"
        return " ".join(f"repository:{name}:{listed(_usual(actions))}" for name, actions in self.actions.items())


def _usual(actions: frozenset[str]) -> frozenset[str]:
    """Whoever pushes looks first what is there; clients expect both in one challenge."""
    return actions | {"pull"} if "push" in actions else actions


def listed(actions: Iterable[str]) -> str:
    """Return actions in their usual order with commas, such as `pull,push`."""
    order = ("pull", "push", "delete")
    return ",".join(sorted(actions, key=lambda action: (order.index(action) if action in order else 9, action)))
