"""Uncompressed tar layers that depend on nothing but names, contents and the executable bit."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from fuseml_oci.bundles.tree import SourceFile


def make_tar(files: Iterable[SourceFile]) -> bytes:
    """Return a tar with the files sorted by path: time 0, owner 0, mode 0644 or 0755, no folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for file in sorted(files, key=lambda f: f.path.encode()):
            info = tarfile.TarInfo(file.path)
            info.size, info.mode = len(file.data), 0o755 if file.executable else 0o644
            archive.addfile(info, io.BytesIO(file.data))
    return buffer.getvalue()
