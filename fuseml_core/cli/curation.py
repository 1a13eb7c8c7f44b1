"""What the commands of `fuseml catalog` share: the curation of the registry's distribution, keys, people, progress."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fuseml_core.cli.render import echo
from fuseml_core.domain.errors import Unavailable

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference
    from fuseml_oci.signing.keys import PublicKey

Command = TypeVar("Command", bound=Callable[..., Any])
#: Entry point through which the distribution that curates is found; the core imports no plugin.
ENTRY_POINT_GROUP = "fuseml.curation"
CHANNELS = click.Choice(["stable", "candidate", "edge"])
TRIALS = click.Choice(["auto", "always", "never"])


def folder_option(command: Command) -> Command:
    """Decorator: give a command the option `--folder/-C DIR` as its argument `folder`."""
    return click.option("--folder", "-C", default=".", show_default=True, metavar="DIR",
                        type=click.Path(file_okay=False, path_type=Path), help="Folder of the catalog.")(command)


def by_option(command: Command) -> Command:
    """Decorator: give a command the option `--by NAME` as its argument `by`."""
    return click.option("--by", metavar="NAME", help="Who does this, for the history; by default USER@HOST.")(command)


def reason_option(command: Command) -> Command:
    """Decorator: give a command the option `--reason TEXT` as its argument `reason`."""
    return click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")(command)


def curation() -> Any:
    """The module that curates.

    Raises:
        Unavailable: The distribution fuseml-registry is not installed.
    """
    import importlib_metadata

    for point in importlib_metadata.entry_points(group=ENTRY_POINT_GROUP):
        return point.load()
    raise Unavailable("Catalogs are curated by the distribution fuseml-registry, which is not installed.",
                      hint="Install it beside fuseml: pip install fuseml-registry")


def surroundings() -> Any:
    """What curation needs of the world: registries, a content store, environments for tests, progress."""
    from dataclasses import replace

    from fuseml_core.settings import from_environment
    from fuseml_sdk.environments import IndexSettings

    settings, module = from_environment(), curation()
    index = replace(IndexSettings(), index_url=settings.index_url, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
                    offline=settings.offline)
    laboratory = module.Laboratory(settings.path("envs"), index, settings.pythons)
    return module.Surroundings(client_for, settings.path("extensions", "content"), laboratory, say,
                               lambda: datetime.now(UTC))


def desk(folder: Path, by: str | None) -> Any:
    """The desk of a catalog folder."""
    return curation().Desk(folder, by or person(), surroundings())


def is_published(place: Reference) -> bool:
    """Whether a catalog can be found at its address; True also for those who may not look."""
    from fuseml_sdk.errors import PluginError

    try:
        return client_for(place).has_manifest(place.repository, "latest")
    except PluginError:
        return True


def how_to_publish(folder: Path) -> str:
    """What to type after a decision."""
    import shlex

    place = "" if folder == Path() else f"-C {shlex.quote(str(folder))} "
    return f"Publish it: fuseml catalog publish {place}--key KEY"


def client_for(reference: Reference) -> RegistryClient:
    """A client for the registry of a reference."""
    from fuseml_core.settings import from_environment
    from fuseml_oci.client import RegistryClient

    settings = from_environment()
    return RegistryClient(reference.registry, proxy=settings.proxy, ca_bundle=settings.ca_bundle)


def bundle_at(text: str) -> Reference:
    """The bundle that is meant: a full reference, or a name in the server's own registry; the newest without a tag."""
    from urllib.parse import urlsplit

    from fuseml_oci.bundles.references import is_local, newest, read_reference

    embedded = ""
    if is_local(text):
        from fuseml_core.cli.context import connect

        embedded = urlsplit(connect().base_url()).netloc
    place = read_reference(text, embedded)
    return place if place.locator else newest(client_for(place).tags(place.repository), place)


def catalog_at(text: str) -> Reference:
    """The repository of a catalog."""
    from fuseml_core.domain.errors import Invalid
    from fuseml_oci.reference import parse

    place = parse(text)
    if place.locator:
        raise Invalid(f"{text} has a tag or digest, and catalogs are followed by their repository.",
                      hint=f"Write oci://{place.registry}/{place.repository}")
    return place


def signer(key: str, *, password_stdin: bool) -> Callable[[Reference], None]:
    """What signs a reference with a private key, in both layouts of cosign.

    Args:
        key: Its file, or the name of one of `fuseml key list`.
        password_stdin: Where its password comes from.
    """
    from fuseml_core.cli.key_files import open_private
    from fuseml_oci.signing.sign import sign

    private = open_private(key, password_stdin=password_stdin)

    def sign_reference(reference: Reference) -> None:
        sign(client_for(reference), reference, private)

    return sign_reference


def public_keys(texts: Sequence[str]) -> list[PublicKey]:
    """Public keys by file, or by the name of one of `fuseml key list`."""
    from fuseml_core.cli.key_files import key_store
    from fuseml_oci.signing.keys import load_public

    return [load_public(Path(text) if Path(text).exists() else key_store().public(text)) for text in texts]


def person() -> str:
    """Who works at this terminal: USER@HOST."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def say(text: str) -> None:
    """One line of progress."""
    echo(text, err=True)
