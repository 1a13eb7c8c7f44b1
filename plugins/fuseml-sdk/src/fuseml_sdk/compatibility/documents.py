"""Whole contracts as one document each: of this SDK, of those released before, and of any installed or packed SDK.

A release of the SDK freezes its contract for ever as `schemas/released/<version>.json`; later code is compared with
the newest of them. `python -m fuseml_sdk.contract --write` never touches these files.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fuseml_sdk import __version__, contract
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.versions import parse_version

#: Contracts as they were released, one file for each version of the SDK that released one.
RELEASED = contract.SCHEMAS.parent / "released"
#: Names of the frozen files that are formats of files instead of hooks.
FORMATS = ("extension-manifest", "pipeline-template", "runnable-descriptor")
_Place = Path | zipfile.Path
_HINT = "Name a contract document (JSON), a folder of frozen schemas, a wheel of fuseml-sdk, or an environment with it."


def assemble(files: Mapping[str, Mapping[str, Any]], sdk_version: str) -> dict[str, Any]:
    """One document from the frozen files of a version.

    Args:
        files: By name, with `contract.json`; those that are missing are left out.
        sdk_version: Version of the SDK that they belong to.

    Returns:
        `protocol`, `sdk_version`, `digest`, `hooks`, `errors` and `formats`, without texts for people.
    """
    head = files["contract.json"]
    hooks = {name: files[f"{name}.json"] for name in head["hooks"] if f"{name}.json" in files}
    formats = {name: files[f"{name}.json"] for name in FORMATS if f"{name}.json" in files}
    made: dict[str, Any] = _lean({
        "protocol": head["protocol"], "sdk_version": sdk_version, "digest": head["digest"], "hooks": hooks,
        "errors": head.get("errors", {}), "formats": formats})
    return made


def _lean(value: Any) -> Any:
    """Without texts for people; titles of objects stay, because changes are reported by the names of types."""
    if isinstance(value, dict):
        texts = {"description"} if "properties" in value else {"description", "title"}
        return {k: _lean(v) for k, v in value.items() if not (k in texts and isinstance(v, str))}
    return [_lean(v) for v in value] if isinstance(value, list) else value


def current() -> dict[str, Any]:
    """The contract as it is in the code of this SDK."""
    made: dict[str, Any] = json.loads(_current_text())
    return made


@cache
def _current_text() -> str:
    """The code does not change while it runs; making schemas takes a hundred times as long as reading them."""
    return json.dumps(assemble(contract.documents(), __version__))


def releases() -> dict[str, dict[str, Any]]:
    """Every released contract by version of the SDK, earliest first."""
    found = sorted(RELEASED.glob("*.json"), key=lambda path: parse_version(path.stem))
    return {path.stem: json.loads(path.read_bytes()) for path in found}


def baseline() -> dict[str, Any]:
    """The contract that was released last: what the code must stay compatible with.

    Raises:
        NotFound: None was released yet.
    """
    kept = list(releases().values())
    if not kept:
        raise NotFound("no contract was released yet", hint="Freeze one with: python -m fuseml_sdk.contract --release")
    return kept[-1]


def release() -> Path:
    """Freeze the contract of the code under this version of the SDK. Returns the new file.

    Raises:
        InvalidInput: This version is frozen already; what was released never changes.
    """
    path = RELEASED / f"{__version__}.json"
    if path.exists():
        raise InvalidInput(f"the contract of {__version__} is frozen in {path.name} already",
                           hint="Give the SDK a new version first; what was released never changes.")
    RELEASED.mkdir(parents=True, exist_ok=True)
    path.write_text(contract.render(current()), encoding="utf-8")
    return path


def read(path: Path) -> dict[str, Any]:
    """The contract that lies somewhere.

    Args:
        path: A document, a folder of frozen schemas, a source tree or a wheel of fuseml-sdk, a bundle's folder that
            carries one, an environment in which it is installed, or the interpreter of one.

    Raises:
        NotFound: There is nothing, or no contract in it.
        InvalidInput: It is not readable as a contract.
    """
    if not path.exists():
        raise NotFound(f"there is no {path}", hint=_HINT)
    try:
        if path.suffix == ".json" and path.name != "contract.json":
            return _document(json.loads(path.read_bytes()), path)
        folder = _schemas(path)
        return assemble(_files(folder), _version_beside(folder)) if folder else _nothing(path)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} is not a contract: {error}", hint=_HINT) from None


def _nothing(path: Path) -> dict[str, Any]:
    raise NotFound(f"there is no contract in {path}", hint=_HINT)


def _document(found: Any, path: Path) -> dict[str, Any]:
    hooks = found.get("hooks") if isinstance(found, dict) else None
    if not isinstance(hooks, dict) or not all(isinstance(h, dict) and {"arguments", "result"} <= h.keys()
                                              for h in hooks.values()):
        raise InvalidInput(f"{path} is not a contract: it has no hooks with arguments and result", hint=_HINT)
    return found  # type: ignore[no-any-return]


def _schemas(path: Path) -> _Place | None:
    """The folder with the frozen schemas of the highest protocol at or below a place."""
    if path.is_file():
        if path.name == "contract.json":
            return path.parent
        if path.suffix in (".whl", ".zip"):
            return _newest(zipfile.Path(path) / "fuseml_sdk" / "schemas")
        return _schemas(path.parent.parent) if path.parent.name == "bin" else None
    if (path / "contract.json").is_file():
        return path
    for candidate in _inside(path):
        if candidate.is_dir() and (found := _newest(candidate)):
            return found
    wheels = sorted([*path.glob("fuseml_sdk-*.whl"), *path.glob("wheels/fuseml_sdk-*.whl")])
    return _schemas(wheels[-1]) if wheels else None


def _inside(path: Path) -> Iterator[Path]:
    yield path / "schemas"
    yield path / "fuseml_sdk" / "schemas"
    yield path / "src" / "fuseml_sdk" / "schemas"
    for packages in sorted(path.glob("lib/python3.*/site-packages")):
        yield packages / "fuseml_sdk" / "schemas"


def _newest(schemas: _Place) -> _Place | None:
    if not schemas.is_dir():
        return None
    versions = {int(each.name[1:]): each for each in schemas.iterdir() if re.fullmatch(r"v\d+", each.name)}
    return versions[max(versions)] if versions else None


def _files(folder: _Place) -> dict[str, dict[str, Any]]:
    return {each.name: json.loads(each.read_text(encoding="utf-8")) for each in folder.iterdir()
            if each.name.endswith(".json")}


def _version_beside(folder: _Place) -> str:
    """`__version__` of the package that the schemas lie in; empty if they lie elsewhere."""
    above: Any = folder.parent  # The type of a parent inside of an archive is not declared as precisely as it is.
    module = above.parent / "__init__.py"
    text = module.read_text(encoding="utf-8") if module.is_file() else ""
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return match[1] if match else ""
