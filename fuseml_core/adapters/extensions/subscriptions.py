"""The marketplaces that a server subscribed to, kept as files: one folder for each, with the copy of its catalog."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from fuseml_core.domain.errors import Failed, NotFound
from fuseml_oci.catalog.format import Channel, Name
from fuseml_oci.catalog.store import CatalogStore
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey, read_public
from fuseml_sdk.durable import write_durably
from fuseml_sdk.types import WireModel

_FILE = "subscription.json"


class Subscription(WireModel):
    """One marketplace."""

    name: Name
    reference: str = Field(description="of the catalog, without digest")
    keys: tuple[str, ...] = Field(min_length=1, description="public keys in PEM, one of which must have signed")
    channel: Channel | None = Field(None, description="what is taken by default; None: what each package says")
    added_at: float
    checked_at: float = Field(0.0, description="seconds since the epoch; when the catalog was last known to be current")
    tried_at: float = Field(0.0, description="when a check failed last")
    problem: str = Field("", description="why the last check failed")

    @property
    def place(self) -> Reference:
        """The repository of the catalog."""
        return parse(self.reference)

    def public_keys(self) -> list[PublicKey]:
        """The pinned keys."""
        return [read_public(pem.encode(), f"a key of the marketplace {self.name}") for pem in self.keys]


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """All marketplaces below one folder.

    Attributes:
        root: Such as `<home>/marketplaces`.
    """

    root: Path

    def list(self) -> list[Subscription]:
        """All of them, in the order in which they were added."""
        found = [self._read(path) for path in self.root.glob(f"*/{_FILE}") if not path.parent.name.startswith(".")]
        return sorted(found, key=lambda entry: (entry.added_at, entry.name))

    def get(self, name: str) -> Subscription:
        """One of them.

        Raises:
            NotFound: There is none of this name.
        """
        every = self.list()
        found = next((entry for entry in every if entry.name == name), None)
        if found is None:
            there = ", ".join(entry.name for entry in every)
            raise NotFound(f"there is no marketplace {name!r}", hint=f"There are: {there}." if there else
                           "Add one: fuseml marketplace add NAME REFERENCE --key FILE")
        return found

    def save(self, subscription: Subscription) -> None:
        """Write one; the copy of its catalog stays."""
        folder = self.root / subscription.name
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(folder / _FILE, subscription.model_dump_json().encode())

    def remove(self, name: str) -> None:
        """Forget one with the copy of its catalog; it is gone at once, then its files are deleted."""
        doomed = self.root / f".removed-{name}"
        shutil.rmtree(doomed, ignore_errors=True)
        (self.root / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def store(self, name: str) -> CatalogStore:
        """The copy of the catalog of one."""
        return CatalogStore(self.root / name / "catalog")

    def _read(self, path: Path) -> Subscription:
        try:
            return Subscription.model_validate_json(path.read_bytes())
        except (OSError, ValidationError, ValueError):
            raise Failed(f"{path} is damaged", hint=f"Remove the folder {path.parent} and add the marketplace "
                         "again.") from None
