"""Extensions across an air gap: one OCI image layout as a tar file, with everything that an installation needs."""

from __future__ import annotations

from fuseml_core.adapters.extensions.airgap.exporting import LayoutExports
from fuseml_core.adapters.extensions.airgap.importing import LayoutImports
from fuseml_core.adapters.extensions.airgap.relocations import Relocation, Relocations

__all__ = ["LayoutExports", "LayoutImports", "Relocation", "Relocations"]
