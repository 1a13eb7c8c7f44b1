"""Use cases of extensions: install, upgrade, roll back, inspect, configure, and their templates and runnables."""

from __future__ import annotations

from fuseml_core.service.extensions.catalog import ExtensionCatalog
from fuseml_core.service.extensions.facade import Extensions
from fuseml_core.service.extensions.options import Options
from fuseml_core.service.extensions.settings import ExtensionSettings

__all__ = ["ExtensionCatalog", "ExtensionSettings", "Extensions", "Options"]
