"""Changes of a package, as functions from one package to the next; nothing here reads or writes files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError

from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.catalog.format import (
    API_VERSION,
    CHANNELS,
    Channel,
    ChannelEntry,
    Deprecation,
    Kind,
    Package,
    PackageVersion,
    SignerRule,
    Yank,
    encode,
)
from fuseml_oci.reference import Reference
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import explain
from fuseml_sdk.versions import parse_version

#: Characters of a line in a catalog.
_LINE = 300


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something, when and why."""

    by: str
    at: str
    why: str = ""


def version_of(descriptor: ExtensionDescriptor, digest: str, act: Act) -> PackageVersion:
    """What a catalog says of a bundle to begin with: what the bundle says itself."""
    manifest = descriptor.manifest
    return PackageVersion.model_validate({
        "version": manifest.version, "digest": digest, "size": sum(layer.size for layer in descriptor.layers),
        "requires_fuseml": manifest.requires_fuseml,
        "dependencies": [need.model_dump() for need in manifest.dependencies],
        "conflicts": [need.model_dump() for need in manifest.conflicts],
        "permissions": [{"name": entry.name[:_LINE], "reason": entry.reason[:_LINE]} for entry in manifest.permissions],
        "published_at": act.at, "published_by": act.by})


def check_is_new(package: Package | None, version: str) -> None:
    """Refuse a version that the catalog has.

    Raises:
        InvalidInput: It has it; no reason makes up for that.
    """
    if package is not None and package.find(version) is not None:
        raise InvalidInput(f"{package.name} {version} is in the catalog already",
                           hint="Published versions never change; promote it, or publish a higher version.")


def with_version(package: Package | None, descriptor: ExtensionDescriptor, place: Reference, namespace: str,
                 channel: str, act: Act, *, author: str = "") -> Package:
    """Add a version to a package, or make the package.

    Args:
        package: As it is; None makes it.
        descriptor: Of the bundle.
        place: Where it lies, with digest.
        namespace: For a new package.
        channel: The first one of the version.
        act: Who takes it in.
        author: Who submitted it; by default the same.

    Raises:
        InvalidInput: The version is there already, or something in the bundle fits into no catalog.
    """
    version = version_of(descriptor, place.digest, replace(act, by=author or act.by))
    check_is_new(package, version.version)
    shown = _described(descriptor) if package is None or _is_newest(package, version.version) else {}
    base = package.model_dump() if package is not None else {
        "api_version": API_VERSION, "name": descriptor.name, "namespace": namespace,
        "repository": f"oci://{place.registry}/{place.repository}"}
    versions = [*(package.versions if package else ()), version]
    changed = _built({**base, **shown, "versions": [entry.model_dump() for entry in _sorted(versions)]})
    return in_channel(changed, version.version, channel)


def in_channel(package: Package, version: str, channel: str, *, replaces: str = "") -> Package:
    """Put a version into a channel; being there already is fine.

    Raises:
        NotFound: The package has no such version.
        InvalidInput: The version is yanked, or the channel is none.
    """
    found = _found(package, version)
    if found.yanked is not None:
        raise InvalidInput(f"{package.name} {version} is yanked: {found.yanked.reason}",
                           hint="Undo that first: fuseml catalog yank --undo")
    name = check_channel(channel)
    entries = package.channels.get(name, ())
    if version in [entry.version for entry in entries]:
        return package
    ordered = sorted((*entries, ChannelEntry(version=version, replaces=replaces)),
                     key=lambda entry: parse_version(entry.version), reverse=True)
    return package.model_copy(update={"channels": {**package.channels, name: tuple(ordered)}})


def out_of_channel(package: Package, version: str, channel: str) -> Package:
    """Take a version out of a channel; the package keeps the version."""
    name = check_channel(channel)
    left = tuple(entry for entry in package.channels.get(name, ()) if entry.version != version)
    if len(left) == len(package.channels.get(name, ())):
        raise NotFound(f"{package.name} {version} is not in the channel {channel}")
    return package.model_copy(update={"channels": {**package.channels, name: left}})


def deprecated(package: Package, act: Act, *, replacement: str = "", version: str = "",
               channel: str = "") -> Package:
    """Advise against a package, a channel of it or a version; `act.why` is the message."""
    if version:
        _found(package, version)
    if not act.why:
        raise InvalidInput("a deprecation needs a message", hint="Say why, and what to use instead.")
    entry = Deprecation(message=act.why[:_LINE], replacement=replacement, version=version or None, by=act.by,
                        at=act.at, channel=check_channel(channel) if channel else None)
    kept = tuple(old for old in package.deprecations if (old.version, old.channel) != (entry.version, entry.channel))
    return package.model_copy(update={"deprecations": (*kept, entry)})


def not_deprecated(package: Package, *, version: str = "", channel: str = "") -> Package:
    """Withdraw such advice."""
    kept = tuple(old for old in package.deprecations if (old.version or "", old.channel or "") != (version, channel))
    if len(kept) == len(package.deprecations):
        raise NotFound(f"{package.name} has no such deprecation")
    return package.model_copy(update={"deprecations": kept})


def yanked(package: Package, version: str, act: Act) -> Package:
    """Take a version back: nobody shall install it anew. It leaves all channels' offers but stays listed."""
    if not act.why:
        raise InvalidInput("taking a version back needs a reason")
    _found(package, version)
    return _replaced(package, version, {"yanked": Yank(reason=act.why[:_LINE], by=act.by, at=act.at)})


def not_yanked(package: Package, version: str) -> Package:
    """Give a version back."""
    if _found(package, version).yanked is None:
        raise InvalidInput(f"{package.name} {version} is not yanked")
    return _replaced(package, version, {"yanked": None})


def patched(package: Package, version: str, values: dict[str, Any]) -> Package:
    """Correct what the catalog says of a version's needs; the bundle stays what it is.

    Args:
        package: As it is.
        version: Which one; empty changes the package itself.
        values: `requires_fuseml`, `dependencies`, `conflicts` of a version; `summary`, `description`, `keywords`,
            `licence`, `links`, `default_channel` of a package.

    Raises:
        NotFound: There is no such version.
        InvalidInput: A value is wrong.
    """
    allowed = {"requires_fuseml", "dependencies", "conflicts"} if version else {
        "summary", "description", "keywords", "licence", "links", "default_channel"}
    if not values or set(values) - allowed:
        raise InvalidInput(f"{', '.join(sorted(set(values) - allowed)) or 'nothing'} cannot be changed here",
                           hint=f"Change {', '.join(sorted(allowed))}.")
    if not version:
        return _built({**package.model_dump(), **values})
    marks = sorted({*_found(package, version).patched, *values})
    dumped = package.model_dump()
    for entry in dumped["versions"]:
        if entry["version"] == version:
            entry.update(values, patched=marks)
    return _built(dumped)


def with_signers(package: Package, rule: SignerRule | None) -> Package:
    """Say whose signatures the bundles of a package must have."""
    return package.model_copy(update={"signers": rule})


def check_channel(channel: str) -> Channel:
    """Return the channel if it is one.

    Raises:
        InvalidInput: It is none.
    """
    for known in get_args(Channel):
        if known == channel:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    raise InvalidInput(f"{channel!r} is not a channel", hint=f"There are: {', '.join(CHANNELS)}.")


def same(left: Package | None, right: Package | None) -> bool:
    """Whether two packages say the same, their histories apart."""
    if left is None or right is None:
        return left is right
    return encode(left.model_copy(update={"history": None})) == encode(right.model_copy(update={"history": None}))


def _described(descriptor: ExtensionDescriptor) -> dict[str, Any]:
    manifest = descriptor.manifest
    kinds: list[Kind] = [component.family for component in manifest.components]
    if descriptor.runnables:
        kinds.append("runnable")
    if descriptor.templates:
        kinds.append("template")
    return {"summary": manifest.summary[:_LINE], "description": manifest.description[:20_000],
            "licence": manifest.licence[:_LINE], "kinds": tuple(dict.fromkeys(kinds)),
            "keywords": tuple(word[:_LINE] for word in getattr(manifest, "keywords", ())),
            "links": {key: value[:_LINE] for key, value in manifest.links.items()}}


def _is_newest(package: Package, version: str) -> bool:
    return all(parse_version(entry.version) < parse_version(version) for entry in package.versions)


def _sorted(versions: Sequence[PackageVersion]) -> list[PackageVersion]:
    return sorted(versions, key=lambda entry: parse_version(entry.version), reverse=True)


def _found(package: Package, version: str) -> PackageVersion:
    found = package.find(version)
    if found is None:
        there = ", ".join(entry.version for entry in package.versions[:20])
        raise NotFound(f"{package.name} has no version {version!r}", hint=f"It has: {there}")
    return found


def _replaced(package: Package, version: str, values: dict[str, Any]) -> Package:
    versions = tuple(entry.model_copy(update=values) if entry.version == version else entry
                     for entry in package.versions)
    return package.model_copy(update={"versions": versions})


def _built(values: dict[str, Any]) -> Package:
    try:
        return Package.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(explain(error, f"the package {values.get('name')}")) from None
