"""`bundle new` and `plugin new`: the source of a small bundle that can be built, installed and used at once.

The files lie beside this module, with names of their own in `@…@`, so that no tool takes them for code of FuseML.
"""

from __future__ import annotations

import importlib.metadata
import json
import keyword
import re
import shutil
import sys
import tempfile
import unicodedata
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_oci.bundles.wheels import Wheel, make_wheel, normalise
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import NAME

#: What a new bundle can hold: a program with a template, or a plugin of one of the three families.
KINDS = ("runnable", "store", "agent", "builder")
_HERE = Path(__file__).parent
_USE = {
    "runnable": "$ fuseml pipeline add {name} --input text='code://*'\n$ fuseml codeset push FOLDER --wait",
    "store": "$ fuseml project store dataset {name}/{name}",
    "agent": "$ fuseml plugin info {name}",
    "builder": "$ fuseml codeset push FOLDER",
}
#: Characters of a name; files, folders and tables show it.
_LONGEST = 63
#: Modules that are in the environment of a plugin or of its tests, `test` being Python's own.
_TAKEN = frozenset({
    "annotated_types", "fuseml", "fuseml_core", "fuseml_oci", "fuseml_registry", "fuseml_sdk", "iniconfig", "packaging",
    "pip", "pluggy", "pydantic", "pydantic_core", "pygments", "pytest", "test", "tests", "typing_extensions",
    "typing_inspection"})
#: Files of an installed distribution that its wheel did not have.
_INSTALLERS = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})


def create(folder: Path, name: str, kind: str = "runnable") -> list[Path]:
    """Write the source of a new bundle: all of it, or nothing.

    Args:
        folder: Where to; must not exist or be empty.
        name: Of the extension.
        kind: `runnable` (a program and a template of a pipeline with it), or the family of a plugin.

    Returns:
        The files, sorted.

    Raises:
        InvalidInput: The name cannot be one, there is something in the folder, or it cannot be made.
    """
    module = _module(name, kind)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is there already", hint="Choose another name, or another --directory.")
    plugin = kind != "runnable"
    sdk = installed_wheel("fuseml-sdk") if plugin else None
    words = {"@NAME@": name, "@MODULE@": module, "@CLASS@": class_name(name, kind),
             "@SDK@": sdk.filename if sdk else "", "@USE@": _USE[kind].format(name=name)}
    with _beside(folder, name) as temporary:
        half = Path(temporary, name)
        half.mkdir()
        for source in ("common", *(("plugin",) if plugin else ()), kind):
            _fill(_HERE / source, half, words)
        if sdk:
            (half / "wheels").mkdir()
            (half / "wheels" / sdk.filename).write_bytes(sdk.data)
        half.replace(folder)  # an empty folder may be there; one that has been filled meanwhile may not
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _beside(folder: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """Where the files are made before they appear in the folder."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent)
    except OSError as error:
        raise InvalidInput(f"nothing can be written to {folder.parent.absolute()}: {error.strerror}",
                           hint="Choose another --directory.") from None


def class_name(name: str, family: str) -> str:
    """`my-notes` of the family `store` becomes `MyNotesStore`; a name that says so already is not told twice."""
    words = "".join(part.capitalize() for part in name.split("-"))
    return words if words.endswith(family.capitalize()) else words + family.capitalize()


def installed_wheel(name: str) -> Wheel:
    """The wheel of a distribution that is installed here: put together again, or built if it is installed from source.

    Raises:
        InvalidInput: It is not installed.
    """
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise InvalidInput(f"{name} is not installed here") from None
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if (origin.get("dir_info") or {}).get("editable"):
        return make_wheel(Path(unquote(urlsplit(origin["url"]).path)))
    stem = f"{re.sub(r'[-.]+', '_', name)}-{distribution.version}-py3-none-any.whl"
    with tempfile.TemporaryDirectory(prefix="fuseml-wheel-") as temporary:
        path = Path(temporary, stem)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(distribution.files or [], key=str):
                if not (set(file.parts) & {"__pycache__", ".."} or file.name in _INSTALLERS):
                    with archive.open(file.as_posix(), "w") as output, Path(str(file.locate())).open("rb") as stream:
                        shutil.copyfileobj(stream, output)
            archive.writestr(f"{re.sub(r'[-.]+', '_', name)}-{distribution.version}.dist-info/RECORD", b"")
        return normalise(stem, path.read_bytes())


def _module(name: str, kind: str) -> str:
    """The Python module of an extension, which must be importable and nobody else's."""
    if not NAME.match(name) or len(name) > _LONGEST:
        shown = f"{name[:_LONGEST]}…" if len(name) > _LONGEST else name
        raise InvalidInput(f"{shown!r} is not a name", hint=f"Use lower-case letters, digits and single hyphens, at "
                           f"most {_LONGEST}{_suggested(_spelt(name))}.")
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InvalidInput(f"{name!r} would make a Python module {module!r}, which cannot be imported",
                           hint=f"Begin with a letter, and take no keyword{_suggested(_prefixed(name, kind))}.")
    if kind != "runnable" and module in sys.stdlib_module_names | _TAKEN:
        raise InvalidInput(f"{name!r} would hide the Python module {module!r}",
                           hint=f"Choose another name{_suggested(_prefixed(name, kind))}.")
    return module


def _suggested(name: str) -> str:
    return f", such as {name}" if NAME.match(name) else ""


def _spelt(name: str) -> str:
    """The nearest that can be a name; empty if nothing is left of it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].rstrip("-")


def _prefixed(name: str, kind: str) -> str:
    """A name that nobody has: with what it is for in front."""
    return f"{'my' if kind == 'runnable' else kind}-{name}"[:_LONGEST]


def _fill(source: Path, folder: Path, words: dict[str, str]) -> None:
    """Write the files of one folder of templates."""
    for path in sorted(source.rglob("*.in")):
        target = folder / _filled(path.relative_to(source).as_posix().removesuffix(".in"), words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_filled(path.read_text(encoding="utf-8"), words), encoding="utf-8")


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
