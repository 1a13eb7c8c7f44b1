"""The locked requirements of bundles, installed or in a registry."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.ports import FoundBundle
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.archives import read_files

_PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
#: Largest layer that is fetched to read a lock.
_MOST = 4 << 20


class RegistryPackageLocks:
    """Implements the port `PackageLocks`.

    Args:
        connect: Returns a client for the registry of a reference.
    """

    def __init__(self, connect: Callable[[Reference], RegistryClient]) -> None:
        self._connect = connect

    def pins(self, bundle: FoundBundle | InstalledExtension) -> Mapping[str, str]:
        """Version by name; see the port."""
        name = str((bundle.descriptor["manifest"].get("environment") or {}).get("lock") or "")
        if not name:
            return {}
        if isinstance(bundle, InstalledExtension):
            path = Path(bundle.store) / name
            return pins_of(path.read_text(encoding="utf-8")) if path.is_file() else {}
        layer = next((entry for entry in bundle.descriptor.get("layers") or [] if entry["kind"] == "agents"), None)
        if layer is None or layer["size"] > _MOST:
            return {}
        reference = parse(bundle.reference)
        with translated(), self._connect(reference) as client:
            data = client.get_blob_bytes(reference.repository, Descriptor("", layer["digest"], layer["size"]))
            for path_in_tar, contents in read_files(io.BytesIO(data)):
                if path_in_tar == name:
                    return pins_of(b"".join(contents).decode(errors="replace"))
        return {}


def pins_of(lock: str) -> dict[str, str]:
    """Version by name of the distributions in a lock."""
    return dict(_PIN.findall(lock))
