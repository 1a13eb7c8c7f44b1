"""What was tested: name and version of the project, digests of its wheels."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path


def describe_project(folder: Path) -> dict[str, str]:
    """Name and version of the extension in a folder, or else of its Python project; empty if there is neither."""
    for name, table in (("extension.toml", ""), ("pyproject.toml", "project")):
        path = folder / name
        if not path.is_file():
            continue
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        facts = document.get(table, {}) if table else document
        if facts.get("name"):
            return {"name": str(facts["name"]), "version": str(facts.get("version", ""))}
    return {}


def wheel_digests(wheels: Iterable[Path]) -> dict[str, str]:
    """The digest of each wheel, by file name."""
    return {wheel.name: f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" for wheel in wheels}
