"""Curation: the folder in which people decide what a catalog says, and the checks that help them to."""

from __future__ import annotations

from fuseml_registry.curation.desk import Desk, mirrored, submit
from fuseml_registry.curation.mirroring import Mirror
from fuseml_registry.curation.reviewing import Surroundings
from fuseml_registry.curation.trials import Laboratory

__all__ = ["Desk", "Laboratory", "Mirror", "Surroundings", "mirrored", "submit"]
