"""One object for looking after extensions: compare, verify, export, import, examine, clean up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuseml_core.service.extensions.care_ports import Exports
from fuseml_core.service.extensions.collection import Collector, QuietCollector
from fuseml_core.service.extensions.difference import Differ
from fuseml_core.service.extensions.doctor import Doctor
from fuseml_core.service.extensions.exporting import Exporter
from fuseml_core.service.extensions.importing import Importer
from fuseml_core.service.extensions.verification import Verifier


@dataclass(frozen=True)
class ExtensionCare:
    """The use cases of looking after extensions; the API knows only this.

    Attributes:
        differ: `extension diff`.
        verifier: `extension verify`.
        exporter: `extension export`; the archives themselves come from `exports`.
        exports: Opens archives.
        importer: `extension import`.
        doctor: `extension doctor`.
        collector: Returns what does `extension gc`, for a number of generations to keep; None: as the server is set.
        quiet: The same, now and then.
    """

    differ: Differ
    verifier: Verifier
    exporter: Exporter
    exports: Exports
    importer: Importer
    doctor: Doctor
    collector: Callable[[int | None], Collector]
    quiet: QuietCollector
