"""Use cases of extensions: install, list, inspect, configure, uninstall, and their templates and runnables."""

from __future__ import annotations

from fuseml_core.service.extensions.catalog import ExtensionCatalog
from fuseml_core.service.extensions.facade import Extensions
from fuseml_core.service.extensions.settings import ExtensionSettings

__all__ = ["ExtensionCatalog", "ExtensionSettings", "Extensions"]
