"""Who may see what: packages whose repository somebody may not pull from do not exist for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from fuseml_registry.pages.index import Index, bits

#: Key in an ASGI scope under which a registry with authentication says what a visitor may see.
SCOPE_KEY = "fuseml_registry.visibility"
#: Visitors whose sets are kept.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Visibility:
    """What one visitor may see.

    Attributes:
        visitor: Name; visitors of one name may see the same.
        may_pull: Whether they may pull from a repository.
    """

    visitor: str
    may_pull: Callable[[str], bool]


class VisibleSets:
    """Remembers for a few visitors which entries of the newest index they may see."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Index, int]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: Request, index: Index) -> int:
        """The set of entries that the sender of a request may see."""
        visibility: Visibility | None = request.scope.get(SCOPE_KEY)
        if visibility is None:
            return index.everything
        with self._lock:
            known = self._kept.get(visibility.visitor)
        if known is None or known[0] is not index:
            known = index, bits(position for position, entry in enumerate(index.entries)
                                if visibility.may_pull(entry.repository))
            with self._lock:
                self._kept[visibility.visitor] = known
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return known[1]


def may_see(request: Request, repository: str) -> bool:
    """Whether the sender of a request may see a repository."""
    visibility: Visibility | None = request.scope.get(SCOPE_KEY)
    return visibility is None or visibility.may_pull(repository)
