"""Rules."""

from __future__ import annotations

from fuseml_sdk.testing.rules import Rulebook

BOOK = Rulebook("agent")
