"""What changed between two states of a catalog, in sentences that a curator can read before publishing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import get_args

from fuseml_oci.catalog.format import Channel, Namespaces, Package, PackageVersion, encode


@dataclass(frozen=True, slots=True)
class Change:
    """One difference; `package` is empty when it concerns namespaces."""

    package: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """For programs."""
        return asdict(self)


def compare(before: Mapping[str, Package], after: Mapping[str, Package]) -> list[Change]:
    """What changed from one set of packages to another, by name."""
    changes = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            versions = ", ".join(entry.version for entry in new.versions) or "no version"
            changes.append(Change(name, f"new package with {versions}"))
        if old is not None and new is None:
            changes.append(Change(name, "removed"))
        if old is not None and new is not None:
            changes += [Change(name, text) for text in _package(old, new)]
    return changes


def compare_namespaces(before: Namespaces, after: Namespaces) -> list[Change]:
    """What changed about who may submit to what."""
    old = {entry.name: entry for entry in before.namespaces}
    new = {entry.name: entry for entry in after.namespaces}
    changes = [Change("", f"namespace {name} is {'new' if name in new else 'removed'}")
               for name in sorted(set(old) ^ set(new))]
    return changes + [Change("", f"the owners of the namespace {name} changed")
                      for name in sorted(set(old) & set(new)) if encode(old[name]) != encode(new[name])]


def _package(old: Package, new: Package) -> Iterator[str]:
    for field in ("namespace", "repository", "summary", "licence", "default_channel"):
        if getattr(old, field) != getattr(new, field):
            yield f"{field}: {getattr(old, field) or '-'} -> {getattr(new, field) or '-'}"
    for field in ("description", "keywords", "kinds", "links", "signers"):
        if getattr(old, field) != getattr(new, field):
            yield f"{field} changed"
    for version in [entry.version for entry in new.versions if old.find(entry.version) is None]:
        yield f"new version {version}"
    for before in old.versions:
        after = new.find(before.version)
        if after is None:
            yield f"version {before.version} removed"
        else:
            yield from _version(before, after)
    for channel in get_args(Channel):
        left = {entry.version for entry in old.channels.get(channel, ())}
        right = {entry.version for entry in new.channels.get(channel, ())}
        yield from (f"{version} joins {channel}" for version in sorted(right - left))
        yield from (f"{version} leaves {channel}" for version in sorted(left - right))
    yield from (f"deprecated: {entry.message}" for entry in new.deprecations if entry not in old.deprecations)
    yield from (f"no longer deprecated: {entry.message}" for entry in old.deprecations
                if entry not in new.deprecations)


def _version(old: PackageVersion, new: PackageVersion) -> Iterator[str]:
    if old.digest != new.digest:
        yield f"version {old.version} HAS OTHER CONTENTS: {old.digest} -> {new.digest}"
    if new.yanked is not None and old.yanked is None:
        yield f"{new.version} yanked: {new.yanked.reason}"
    if old.yanked is not None and new.yanked is None:
        yield f"{new.version} no longer yanked"
    for field in ("requires_fuseml", "dependencies", "conflicts", "permissions"):
        if getattr(old, field) != getattr(new, field):
            yield f"{field} of {new.version} patched"
