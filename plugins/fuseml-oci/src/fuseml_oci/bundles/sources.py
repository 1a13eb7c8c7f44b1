"""From a bundle back to its source: a folder that builds to the same digest again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fuseml_oci.bundles.build import MANIFEST_FILE
from fuseml_oci.bundles.transfer import PulledBundle
from fuseml_oci.bundles.unpack import DESCRIPTOR_FILE, unpack


def unpack_source(bundle: PulledBundle, folder: Path) -> Path:
    """Unpack a bundle as a source that can be read, changed and built; wheels stay wheels.

    Args:
        bundle: Its blobs must be verified.
        folder: Must not exist.

    Raises:
        InvalidInput: The bundle is hostile or damaged; nothing is left then.
    """
    unpack(bundle, folder)
    try:
        (folder / DESCRIPTOR_FILE).unlink()
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode & 0o777 | 0o200)
        data = bundle.descriptor.manifest.model_dump(mode="json", exclude_defaults=True)
        environment = dict(data.get("environment") or {})
        if environment or bundle.descriptor.manifest.environment is not None:
            environment.pop("vendored", None)
            environment["wheels"] = [f"wheels/{name}" for name in environment.get("wheels", [])]
            data["environment"] = environment
        (folder / MANIFEST_FILE).write_text(toml_of(data), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def toml_of(data: dict[str, Any]) -> str:
    """A TOML document of plain data: fields first, then tables, then lists of tables."""
    simple = [f"{_key(key)} = {_value(value)}" for key, value in data.items() if not _is_table(value)]
    blocks = ["\n".join(simple)] if simple else []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            blocks.append(f"[{_key(key)}]\n" + "\n".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()))
        elif _is_table(value):
            blocks += [f"[[{_key(key)}]]\n" + "\n".join(f"{_key(k)} = {_value(v)}" for k, v in entry.items())
                       for entry in value]
    return "\n\n".join(blocks) + "\n"


def _is_table(value: Any) -> bool:
    return (isinstance(value, dict) and bool(value)) or (
        isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value))


def _key(text: str) -> str:
    plain = text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return text if plain else _string(text)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _string(value) if isinstance(value, str) else json.dumps(value)


def _string(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but TOML also wants DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
