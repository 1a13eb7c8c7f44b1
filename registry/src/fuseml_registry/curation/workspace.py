"""The folder of a catalog: readable files, meant for git, one for each package.

catalog.toml           name, summary, reference, how long a publication is good
namespaces.json        who may submit to what
packages/<name>.json   what the catalog says of a package
history/<name>.json    what was decided about it: who, when, why
published.json         the last publication that this folder knows of
"""

from __future__ import annotations

import fcntl
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from fuseml_oci.catalog.contents import Contents
from fuseml_oci.catalog.format import (
    API_VERSION,
    MAX_DOCUMENT,
    Decision,
    Digest,
    History,
    Line,
    Moment,
    Name,
    Namespaces,
    Package,
    Who,
    decode,
)
from fuseml_oci.reference import Reference, parse
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import NAME, explain
from fuseml_sdk.types import WireModel
from fuseml_sdk.types.model import StrictModel

SETTINGS = "catalog.toml"
_NAMESPACES, _PUBLISHED, _PACKAGES, _HISTORY = "namespaces.json", "published.json", "packages", "history"
Document = TypeVar("Document", bound=WireModel)

_TEMPLATE = """\
# A catalog of FuseML extensions. The other files are written by `fuseml catalog`; keep all of them in git.
name = {name}
summary = {summary}
# Where it is published, without a tag.
reference = {reference}
# Where bundles are copied when they are accepted: oci://host/namespace. Empty: they stay where their authors put them.
bundles = {bundles}
# Days for which a publication is good. Publish again before they are over, even if nothing changed.
valid_days = {valid_days}
"""


class CatalogSettings(StrictModel):
    """What `catalog.toml` says."""

    name: Name
    summary: Line = ""
    reference: str
    bundles: str = ""
    valid_days: int = Field(30, ge=1, le=3650)

    @property
    def place(self) -> Reference:
        """Where the catalog is published."""
        return parse(self.reference)


class Publication(WireModel):
    """The last publication that a folder knows of."""

    version: int = Field(ge=0)
    digest: Digest
    at: Moment
    by: Who


class Workspace:
    """The files of one catalog.

    Args:
        folder: With catalog.toml.

    Raises:
        NotFound: There is no catalog.toml.
        InvalidInput: It is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = self._settings()

    @classmethod
    def create(cls, folder: Path, settings: CatalogSettings) -> Workspace:
        """Make a new folder.

        Raises:
            InvalidInput: It holds a catalog already, or cannot be written.
        """
        path = folder / SETTINGS
        if path.exists():
            raise InvalidInput(f"{path} exists already", hint="Choose another folder, or edit that file.")
        quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in settings.model_dump().items()}
        try:
            for part in (_PACKAGES, _HISTORY):
                (folder / part).mkdir(parents=True, exist_ok=True)
            write_durably(path, _TEMPLATE.format(**quoted).encode(), mode=0o644)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be written: {error.strerror or error}") from None
        return cls(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other commands from changing this folder meanwhile."""
        with (self.folder / SETTINGS).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def names(self) -> list[str]:
        """Names of all packages, sorted."""
        return sorted(path.stem for path in (self.folder / _PACKAGES).glob("*.json"))

    def package(self, name: str) -> Package:
        """One package.

        Raises:
            NotFound: There is none.
        """
        found = self.find(name)
        if found is None:
            there = ", ".join(self.names()[:20])
            raise NotFound(f"the catalog has no package {name!r}", hint=f"It has: {there}" if there else
                           "Add one: fuseml catalog add REFERENCE")
        return found

    def find(self, name: str) -> Package | None:
        """One package, None if there is none."""
        if not NAME.match(name):
            return None
        package = self._read(Package, f"{_PACKAGES}/{name}.json")
        if package is not None and package.name != name:
            raise InvalidInput(f"{self.folder / _PACKAGES / name}.json is about {package.name!r}",
                               hint="The file has the name of its package.")
        return package

    def packages(self) -> dict[str, Package]:
        """All packages by name."""
        return {name: self.package(name) for name in self.names()}

    def history(self, name: str) -> History:
        """What was decided about a package."""
        return self._read(History, f"{_HISTORY}/{name}.json") or History(api_version=API_VERSION, package=name)

    def namespaces(self) -> Namespaces:
        """Who may submit to what."""
        return self._read(Namespaces, _NAMESPACES) or Namespaces(api_version=API_VERSION)

    def published(self) -> Publication | None:
        """The last publication that this folder knows of."""
        return self._read(Publication, _PUBLISHED)

    def contents(self) -> Contents:
        """Everything that the catalog says."""
        packages = self.packages()
        return Contents(packages, self.namespaces(), {name: self.history(name) for name in packages})

    def save(self, package: Package, decision: Decision) -> None:
        """Write a package and why it changed; the reason first, so that no change is without one."""
        self.record(package.name, decision)
        self._write(f"{_PACKAGES}/{package.name}.json", package)

    def record(self, name: str, decision: Decision) -> None:
        """Add a decision to the history of a package, which need not be in the catalog."""
        history = self.history(name)
        self._write(f"{_HISTORY}/{name}.json",
                    history.model_copy(update={"decisions": (*history.decisions, decision)}))

    def save_history(self, history: History) -> None:
        """Write a whole history, such as that of a catalog taken over."""
        self._write(f"{_HISTORY}/{history.package}.json", history)

    def save_package(self, package: Package) -> None:
        """Write a package as it was published; its history is a file of its own."""
        self._write(f"{_PACKAGES}/{package.name}.json", package.model_copy(update={"history": None}))

    def save_namespaces(self, namespaces: Namespaces) -> None:
        """Write who may submit to what."""
        self._write(_NAMESPACES, namespaces)

    def save_published(self, publication: Publication) -> None:
        """Remember a publication."""
        self._write(_PUBLISHED, publication)

    def _settings(self) -> CatalogSettings:
        path = self.folder / SETTINGS
        try:
            settings = CatalogSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise NotFound(f"{self.folder} is not the folder of a catalog: it has no {SETTINGS}",
                           hint="Make one: fuseml catalog init DIR --name NAME --reference oci://…") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from None
        except ValidationError as error:
            raise InvalidInput(explain(error, str(path))) from None
        if settings.place.locator:
            raise InvalidInput(f"{path}: reference: {settings.reference} has a tag or digest",
                               hint="Write the repository only; each publication has its own version.")
        return settings

    def _read(self, model: type[Document], name: str) -> Document | None:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
        document = decode(model, data, str(path))
        _refuse_unknown(json.loads(data), document.model_dump(mode="json", exclude_unset=True), str(path))
        return document

    def _write(self, name: str, document: WireModel) -> None:
        path = self.folder / name
        values = document.model_dump(mode="json", exclude_defaults=True)
        data = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
        if len(data) > MAX_DOCUMENT:
            raise InvalidInput(f"{path} would have {len(data)} bytes; at most {MAX_DOCUMENT} are allowed")
        try:
            path.parent.mkdir(exist_ok=True)
            write_durably(path, data, mode=0o644)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from None


def _refuse_unknown(written: Any, understood: Any, where: str) -> None:
    """People edit these files: a field that nobody knows is a typing mistake, which must not be lost silently."""
    if isinstance(written, dict) and isinstance(understood, dict):
        for key, value in written.items():
            if key not in understood:
                raise InvalidInput(f"{where}: {key}: there is no such field", hint="Correct its name, or remove it.")
            _refuse_unknown(value, understood[key], f"{where}: {key}")
    elif isinstance(written, list) and isinstance(understood, list):
        for number, (left, right) in enumerate(zip(written, understood, strict=True)):
            _refuse_unknown(left, right, f"{where}[{number}]")
