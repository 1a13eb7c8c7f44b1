"""`bundle new`: the source of a small bundle that can be built, installed and used at once.

The files lie beside this module, with names of their own in `@…@`, so that no tool takes them for code of FuseML.
"""

from __future__ import annotations

import importlib.metadata
import json
import keyword
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from fuseml_oci.bundles.wheels import Wheel, make_wheel, normalise
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import NAME

#: What a new bundle can hold.
KINDS = ("runnable", "store")
_HERE = Path(__file__).parent
_USE = {
    "runnable": "$ fuseml pipeline add {name} --input text='code://*'\n$ fuseml codeset push FOLDER --wait",
    "store": "$ fuseml agent list",
}
#: Files of an installed distribution that its wheel did not have.
_INSTALLERS = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})


def create(folder: Path, name: str, kind: str = "runnable") -> list[Path]:
    """Write the source of a new bundle.

    Args:
        folder: Where to; must not exist or be empty.
        name: Of the extension.
        kind: `runnable` (a program and a template of a pipeline with it) or `store` (a plugin that keeps artifacts).

    Returns:
        The files, sorted.

    Raises:
        InvalidInput: The name cannot be one, or there is something in the folder.
    """
    if not NAME.match(name):
        raise InvalidInput(f"{name!r} is not a name", hint="Use lower-case letters, digits and single hyphens.")
    module = name.replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise InvalidInput(f"{name!r} would make a Python module {module!r}, which cannot be imported",
                           hint="Begin with a letter, and take no keyword.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is there already", hint="Choose another name, or another --directory.")
    sdk = installed_wheel("fuseml-sdk") if kind == "store" else None
    words = {"@NAME@": name, "@MODULE@": module, "@CLASS@": "".join(p.capitalize() for p in name.split("-")) + "Store",
             "@SDK@": sdk.filename if sdk else "", "@USE@": _USE[kind].format(name=name)}
    for source in (_HERE / "common", _HERE / kind):
        for path in sorted(source.rglob("*.in")):
            target = folder / _filled(path.relative_to(source).as_posix().removesuffix(".in"), words)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled(path.read_text(encoding="utf-8"), words), encoding="utf-8")
    if sdk:
        (folder / "wheels").mkdir()
        (folder / "wheels" / sdk.filename).write_bytes(sdk.data)
    return sorted(path for path in folder.rglob("*") if path.is_file())


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


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
