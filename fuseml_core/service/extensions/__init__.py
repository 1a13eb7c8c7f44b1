"""Use cases of extensions: install, list, inspect, uninstall, and their templates and runnables."""

from __future__ import annotations

from fuseml_core.service.extensions.catalog import ExtensionCatalog
from fuseml_core.service.extensions.facade import Extensions

__all__ = ["ExtensionCatalog", "Extensions"]
