"""What people may say about a change of the extensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseml_core.service.extensions.ports import Wish


@dataclass(frozen=True, slots=True)
class Options:
    """How a change is planned and made.

    Attributes:
        wish: Which versions may be chosen.
        allow_unsigned: Install also what nobody signed whom the policy knows.
        dry_run: Only plan.
        force: Change also what pipelines or other extensions use.
        settings: Values to set with the change, by extension.
    """

    wish: Wish = field(default_factory=Wish)
    allow_unsigned: bool = False
    dry_run: bool = False
    force: bool = False
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
