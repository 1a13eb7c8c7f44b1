"""Signatures of what the registry holds, checked against the keys that this server knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_oci.signing.keys import PublicKey, load_public, read_public
from fuseml_oci.signing.verify import Fault, Signature, attestations, verify
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import PluginError

#: Keys of a folder that are read.
_MAX_KEYS = 200


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key in PEM, and what people here call it."""

    pem: str
    name: str


@dataclass(frozen=True, slots=True)
class Signers:
    """Signatures over one manifest.

    Attributes:
        good: Made by known keys.
        others: Signatures that no known key made, or that are damaged.
        names: Fingerprint of each key that signed to its name.
    """

    good: tuple[Signature, ...] = ()
    others: tuple[Fault, ...] = ()
    names: dict[str, str] = field(default_factory=dict)


def known_keys(folder: Path | None) -> list[KnownKey]:
    """The public keys (`*.pub`) of a folder, named after their files."""
    if folder is None:
        return []
    found = []
    for path in sorted(folder.glob("*.pub"))[:_MAX_KEYS]:
        try:
            found.append(KnownKey(load_public(path).pem.decode("ascii"), path.stem))
        except PluginError:
            continue
    return found


def signers(source: ManifestSource, digest: str, keys: Iterable[KnownKey]) -> Signers:
    """Look for signatures of a manifest."""
    loaded = _loaded(keys)
    others: list[Fault] = []
    good = verify(source, digest, [public for public, _ in loaded.values()], others.append)
    names = {signature.key: loaded[signature.key][1] for signature in good}
    return Signers(tuple(good), tuple(fault for fault in others if fault.is_signature), names)


def attesters(source: ManifestSource, digest: str, keys: Iterable[KnownKey]) -> dict[str, list[str]]:
    """Look for attestations of a manifest: digest of each that known keys signed to the names of the keys."""
    loaded = _loaded(keys)
    found: dict[str, list[str]] = {}
    for entry in attestations(source, digest, [public for public, _ in loaded.values()]):
        found.setdefault(entry.digest, []).append(loaded[entry.key][1])
    return found


def _loaded(keys: Iterable[KnownKey]) -> dict[str, tuple[PublicKey, str]]:
    """Keys by fingerprint, with their names; what is no key is left out."""
    loaded: dict[str, tuple[PublicKey, str]] = {}
    for key in keys:
        try:
            public = read_public(key.pem.encode(), key.name)
        except PluginError:
            continue
        loaded.setdefault(public.fingerprint, (public, key.name))
    return loaded
