"""Where imported bundles came from: the embedded registry holds them now, and they are judged as what they were.

A bundle in the embedded registry is signed by this server's key. An imported one is not, and lying there proves
nothing: the policy is asked about its original reference, with the keys that were given when it was imported.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fuseml_oci.reference import Reference, parse
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, PluginError


@dataclass(frozen=True, slots=True)
class Relocation:
    """One bundle that was imported.

    Attributes:
        digest: `sha256:<hex>` of its OCI manifest.
        original: Where the exporting machine had it, with digest.
        local: Where it lies now, in the embedded registry: `extensions/<name>`, without the registry's address, which
            may change with each start.
        version: Semantic version.
        keys: Public keys in PEM that were given with it; they endorse it for rules that ask a marketplace.
        wheels: Digests of the wheels that came with it.
    """

    digest: str
    original: str
    local: str
    version: str
    keys: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()


class Relocations:
    """The map from original to local references, one JSON file; safe to use from several threads.

    Args:
        path: The file, such as `<home>/extensions/relocations.json`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def all(self) -> list[Relocation]:
        """Every bundle that was imported, by digest."""
        try:
            entries = json.loads(self._path.read_bytes())["relocations"]
            read = [Relocation(**{**entry, "keys": tuple(entry.get("keys") or ()),
                                  "wheels": tuple(entry.get("wheels") or ())}) for entry in entries]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{self._path} is damaged: {error}",
                               hint="Restore it, or remove it and import the archives again.") from None
        return sorted(read, key=lambda relocation: relocation.digest)

    def of(self, digest: str) -> Relocation | None:
        """The relocation of a bundle; None if it was not imported."""
        return next((relocation for relocation in self.all() if relocation.digest == digest), None)

    def versions(self, reference: Reference) -> list[Relocation]:
        """What was imported from a repository, whatever its tag."""
        return [relocation for relocation in self.all() if self._is_from(relocation, reference)]

    def local(self, reference: Reference) -> Relocation | None:
        """Where a bundle lies that is asked for by its original reference, by digest or by version."""
        found = [relocation for relocation in self.versions(reference)
                 if (relocation.digest == reference.digest if reference.digest
                     else reference.tag in ("", relocation.version))]
        return found[0] if len(found) == 1 or (found and reference.locator) else None

    def add(self, relocations: Iterable[Relocation]) -> None:
        """Write down imported bundles; keys that were given for one before stay."""
        with self._lock:
            known = {relocation.digest: relocation for relocation in self.all()}
            for new in relocations:
                old = known.get(new.digest)
                keys = tuple(dict.fromkeys([*(old.keys if old else ()), *new.keys]))
                wheels = tuple(sorted({*(old.wheels if old else ()), *new.wheels}))
                known[new.digest] = replace(new, keys=keys, wheels=wheels)
            self._write(known.values())

    def forget(self, digests: Iterable[str]) -> None:
        """Drop bundles that are not in the embedded registry any more."""
        gone = set(digests)
        with self._lock:
            self._write(relocation for relocation in self.all() if relocation.digest not in gone)

    def _write(self, relocations: Iterable[Relocation]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = [asdict(relocation) for relocation in sorted(relocations, key=lambda r: r.digest)]
        write_durably(self._path, json.dumps({"version": 1, "relocations": entries}, indent=1).encode())

    @staticmethod
    def _is_from(relocation: Relocation, reference: Reference) -> bool:
        try:
            original = parse(relocation.original)
        except PluginError:
            return False
        return (original.registry, original.repository) == (reference.registry, reference.repository)
