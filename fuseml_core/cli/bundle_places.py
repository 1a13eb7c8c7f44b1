"""Where bundles are: folders, files, registries; shared by the commands of `fuseml bundle`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fuseml_core.domain.errors import Invalid, NotFound

if TYPE_CHECKING:
    from fuseml_oci.bundles import BuiltBundle, ExtensionDescriptor, Layout
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference
    from fuseml_sdk.environments import IndexSettings

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Wheels:
    """Which wheels of the lock a bundle shall carry.

    Attributes:
        wanted: Whether it shall carry any.
        pythons: Minor versions; none: the running one.
        platforms: None: this one.
    """

    wanted: bool = False
    pythons: Sequence[str] = ()
    platforms: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle that was found somewhere.

    Attributes:
        place: Where, for people.
        digest: Of its manifest.
        descriptor: What it says.
        lock: Reads the text of its lock.
        referrers: Artifact and predicate types of what refers to it; None: it is in no registry or layout.
    """

    place: str
    digest: str
    descriptor: ExtensionDescriptor
    lock: Callable[[], str]
    referrers: Sequence[str] | None = field(default=None)


def say(text: str) -> None:
    """Progress, on standard error."""
    click.echo(text, err=True)


def wheel_options(command: Command) -> Command:
    """Decorator: options that choose wheels to carry, as the argument `wheels`."""
    from functools import wraps

    @wraps(command)
    def gathered(*arguments: Any, with_wheels: bool, pythons: tuple[str, ...], platforms: tuple[str, ...],
                 **options: Any) -> Any:
        if (pythons or platforms) and not with_wheels:
            raise click.UsageError("--python and --platform choose wheels; they need --with-wheels.")
        return command(*arguments, wheels=Wheels(with_wheels, pythons, platforms), **options)

    for option in (
        click.option("--platform", "platforms", metavar="NAME", multiple=True,
                     help="With --with-wheels: linux-x86_64, linux-aarch64, macos-x86_64 or macos-arm64; this one by "
                          "default. Repeatable."),
        click.option("--python", "pythons", metavar="VERSION", multiple=True,
                     help="With --with-wheels: minor version such as 3.12; the running one by default. Repeatable."),
        click.option("--with-wheels", is_flag=True,
                     help="Carry the wheels of the lock, so that installing needs no package index."),
    ):
        gathered = option(gathered)
    return gathered  # type: ignore[return-value]


def build_bundle(folder: Path, *, dev: bool, wheels: Wheels | None = None) -> BuiltBundle:
    """Build the bundle of a folder, after the error-level rules; wheels come from `<home>/cache` where they can."""
    from fuseml_oci.bundles import WheelCache
    from fuseml_oci.bundles import build as build_from
    from fuseml_oci.bundles.lint import refuse_errors

    cache = _cache("wheels")
    built = build_from(folder, dev=dev, wheels=WheelCache(cache), vendored=vendored_wheels(folder, wheels))
    refuse_errors(built, folder)
    return built


def vendored_wheels(folder: Path, wheels: Wheels | None) -> list[Path]:
    """Fetch the wheels that a bundle shall carry."""
    if wheels is None or not wheels.wanted:
        return []
    from fuseml_oci.bundles.vendoring import vendor

    return vendor(folder, _cache("vendored"), pythons=wheels.pythons, platforms=wheels.platforms,
                  index=_index(), progress=say)


def open_for_push(source: Path, *, dev: bool, wheels: Wheels) -> BuiltBundle | Layout:
    """Build a source, or open a layout."""
    from fuseml_oci.bundles import open_layout

    if (source / "extension.toml").is_file():
        return build_bundle(source, dev=dev, wheels=wheels)
    if dev or wheels.wanted:
        raise click.UsageError("--dev and --with-wheels build from a folder with extension.toml; this bundle is built "
                               "already.")
    return open_layout(source)


def open_subject(text: str) -> Opened:
    """Find the bundle that a folder, file or reference means."""
    from fuseml_oci.bundles import open_layout
    from fuseml_oci.bundles.attachments import lock_of

    path = Path(text)
    if not path.exists():
        return _open_remote(text)
    if (path / "extension.toml").is_file():
        built = build_bundle(path, dev=False)
        return Opened(text, built.digest, built.descriptor, lambda: lock_of(built))
    layout = open_layout(path)
    types = _types(entry for entry in layout.image.manifests() if entry.digest != layout.digest)
    return Opened(text, layout.digest, layout.descriptor, lambda: lock_of(layout), types)


def _open_remote(text: str) -> Opened:
    from fuseml_oci.bundles.transfer import look_up

    place, client = locate(text)
    found = look_up(newest_of(place, client, text), client)

    def lock() -> str:
        from fuseml_oci.bundles.attachments import read_lock_layer
        from fuseml_oci.bundles.transfer import descriptor_of_layer

        layers = [layer for layer in found.descriptor.layers if layer.kind == "agents"]
        return "".join(read_lock_layer(client.get_blob_bytes(found.reference.repository, descriptor_of_layer(layer)))
                       for layer in layers)

    types = _types(client.referrers(found.reference.repository, found.digest))
    return Opened(str(found.reference), found.digest, found.descriptor, lock, types)


def locate(text: str) -> tuple[Reference, RegistryClient]:
    """The place that a reference or bare name means, and a client for its registry."""
    from urllib.parse import urlsplit

    from fuseml_oci.bundles.references import is_local, read_reference
    from fuseml_oci.client import RegistryClient

    if is_path(text) and not Path(text).exists():
        raise NotFound(f"there is no file or folder {text}")
    if not is_local(text):
        from fuseml_core.settings import from_environment

        place, settings = read_reference(text, ""), from_environment()
        return place, RegistryClient(place.registry, proxy=settings.proxy, ca_bundle=settings.ca_bundle)
    from fuseml_core.cli.context import connect

    base = connect().base_url()
    return read_reference(text, urlsplit(base).netloc), RegistryClient.for_url(base)


def newest_of(place: Reference, client: RegistryClient, text: str = "") -> Reference:
    """The reference with a tag: without one, the highest release is meant.

    Args:
        place: The reference.
        client: For its registry.
        text: What somebody wrote, for the error.

    Raises:
        NotFound: There is no such repository.
    """
    from fuseml_oci.bundles.references import newest
    from fuseml_sdk.errors import NotFound as Nothing

    if place.locator:
        return place
    try:
        return newest(client.tags(place.repository), place)
    except Nothing:
        named = text or str(place)
        raise NotFound(f"there is no bundle {named}: neither a folder or file here, nor a repository "
                       f"{place.repository} with versions at {place.registry}",
                       hint="See what there is: fuseml extension search") from None


def is_path(text: str) -> bool:
    """Whether a target means a file or folder and not a reference."""
    separators = (os.sep, f".{os.sep}", f"..{os.sep}", "~")
    return text.endswith(".tar") or text.startswith(separators) or text in (".", "..") or Path(text).is_dir()


def check_name(place: Reference, descriptor: ExtensionDescriptor) -> None:
    """Refuse a repository that is not called as the extension is."""
    if place.repository.rpartition("/")[2] != descriptor.name:
        raise Invalid(f"{place} does not end with {descriptor.name!r}, the name of the extension.",
                      hint="A bundle lies in a repository that ends with its name, so that dependencies find it.")


def _types(entries: Any) -> list[str]:
    """Artifact types and predicate types of referrers."""
    from fuseml_oci.signing.bundle import PREDICATE_TYPE
    from fuseml_oci.signing.sign import IN_TOTO_TYPE

    found = {entry.annotations.get(PREDICATE_TYPE) or entry.annotations.get(IN_TOTO_TYPE) or entry.artifact_type
             for entry in entries}
    return sorted(kind for kind in found if kind)


def _cache(name: str) -> Path:
    from fuseml_core.settings import from_environment

    return from_environment().path("cache", name)


def _index() -> IndexSettings:
    from fuseml_core.settings import from_environment
    from fuseml_sdk.environments import IndexSettings

    settings = from_environment()
    return IndexSettings(index_url=settings.index_url, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
                         offline=settings.offline)
