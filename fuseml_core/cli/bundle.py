"""`fuseml bundle`: extensions as packages. Only pushing to or inspecting a bare name needs a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.cells import size
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item

if TYPE_CHECKING:
    from fuseml_oci.bundles import BuiltBundle, ExtensionDescriptor, Layout
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference

ITEM: list[Column] = [
    ("Name", "manifest.name"), ("Version", "manifest.version"), ("Summary", "manifest.summary"),
    ("Licence", "manifest.licence"), ("Needs FuseML", "manifest.requires_fuseml"),
    ("Depends on", lambda item: _ranges(item["manifest"].get("dependencies"))),
    ("Conflicts with", lambda item: _ranges(item["manifest"].get("conflicts"))),
    ("Components", lambda item: [f"{c['family']} {c['name']}" for c in item["manifest"].get("components") or []]),
    ("Runnables", lambda item: [runnable["name"] for runnable in item.get("runnables") or []]),
    ("Templates", lambda item: [template["name"] for template in item.get("templates") or []]),
    ("Permissions", lambda item: [f"{p['name']}: {p['reason']}" for p in item["manifest"].get("permissions") or []]),
    ("Layers", lambda item: [f"{layer['title']} ({size(layer['size'])})" for layer in item.get("layers") or []]),
]


#: Commands of the group that live in modules of their own, imported when they are used.
_ELSEWHERE = {"sign": "fuseml_core.cli.bundle_trust", "verify": "fuseml_core.cli.bundle_trust",
              "attach": "fuseml_core.cli.bundle_trust"}


class _Group(click.Group):
    """The commands of this module, then those of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        from importlib import import_module

        command = getattr(import_module(_ELSEWHERE[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Group)
def bundle() -> None:
    """Build, push and inspect bundles: extensions packaged as OCI artifacts."""


@bundle.command("build")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path),
              help="An .oci.tar file or a folder; by default NAME-VERSION.oci.tar.")
@click.option("--dev", is_flag=True, help="Append -dev.<digest> to the version, so that every change has its own.")
def build(folder: Path, output: Path | None, dev: bool) -> None:
    """Build and check the bundle of DIR, the folder with extension.toml.

    The same source gives the same digest on any machine.
    """
    from fuseml_oci.bundles import write

    built = build_bundle(folder, dev=dev)
    name, version = built.descriptor.name, built.descriptor.version
    path = write(built, output or Path(f"{name}-{version}.oci.tar"))
    echo(f"Built {name} {version} ({size(sum(layer.size for layer in built.descriptor.layers))})")
    echo(f"{path}  {built.digest}")


@bundle.command("push")
@click.argument("source", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.argument("reference", required=False)
@click.option("--dev", is_flag=True, help="With the folder of a source: build a development version.")
@output_option
def push(source: Path, reference: str | None, dev: bool, output: str) -> None:
    """Push a bundle unchanged: a folder with extension.toml (built first), an .oci.tar file or an image layout.

    REFERENCE is oci://host/namespace/name, or a bare name in the registry of the FuseML server, which is the
    default; the tag is the version. The server signs what is pushed to its own registry.
    """
    from fuseml_core.cli.bundle_trust import sign_pushed
    from fuseml_oci.bundles import push as push_bundle

    opened = _open(source, dev)
    place, client = _locate(reference or opened.descriptor.name)
    _check_name(place, opened.descriptor)
    pushed = push_bundle(opened, place, client, lambda text: click.echo(text, err=True))
    signer = sign_pushed(pushed)
    if output != "table":
        show_data({"reference": str(pushed), "name": opened.descriptor.name, "version": opened.descriptor.version,
                   "digest": pushed.digest, "signer": signer}, output)
        return
    echo(f"Pushed {opened.descriptor.name} {opened.descriptor.version}")
    echo(str(pushed))
    if signer:
        echo(f"Signed by the server's key {signer}")
    short = reference is None or place.registry not in reference
    echo(f"Install it: fuseml extension install {opened.descriptor.name}:{pushed.tag}" if short else
         f"Install it: fuseml extension install {pushed.with_tag(pushed.tag)}")


@bundle.command("inspect")
@click.argument("subject", metavar="REFERENCE|DIR|FILE")
@output_option
def inspect(subject: str, output: str) -> None:
    """Show what a bundle contains: in a registry, an .oci.tar file, an image layout or the folder of its source."""
    show_item(_describe(subject), output, ITEM)


def _describe(subject: str) -> dict[str, Any]:
    from fuseml_oci.bundles import inspect as inspect_bundle
    from fuseml_oci.bundles.references import newest

    if Path(subject).exists():
        descriptor = inspect_bundle(Path(subject))
    else:
        place, client = _locate(subject)
        place = place if place.locator else newest(client.tags(place.repository), place)
        descriptor = inspect_bundle(place, client)
    return descriptor.model_dump(mode="json", by_alias=True)


def build_bundle(folder: Path, *, dev: bool) -> BuiltBundle:
    """Build the bundle of a folder; wheels that were built before are taken from `<home>/cache/wheels`."""
    from fuseml_core.settings import from_environment
    from fuseml_oci.bundles import WheelCache
    from fuseml_oci.bundles import build as build_from

    return build_from(folder, dev=dev, wheels=WheelCache(from_environment().path("cache", "wheels")))


def _open(source: Path, dev: bool) -> BuiltBundle | Layout:
    from fuseml_oci.bundles import open_layout

    if (source / "extension.toml").is_file():
        return build_bundle(source, dev=dev)
    if dev:
        raise click.UsageError("--dev builds from a folder with extension.toml; this bundle is built already.")
    return open_layout(source)


def _locate(text: str) -> tuple[Reference, RegistryClient]:
    """The place that a reference or bare name means, and a client for its registry."""
    from urllib.parse import urlsplit

    from fuseml_oci.bundles.references import is_local, read_reference
    from fuseml_oci.client import RegistryClient

    if not is_local(text):
        from fuseml_core.settings import from_environment

        place, settings = read_reference(text, ""), from_environment()
        return place, RegistryClient(place.registry, proxy=settings.proxy, ca_bundle=settings.ca_bundle)
    from fuseml_core.cli.context import connect

    base = connect().base_url()
    return read_reference(text, urlsplit(base).netloc), RegistryClient.for_url(base)


def _check_name(place: Reference, descriptor: ExtensionDescriptor) -> None:
    from fuseml_core.domain.errors import Invalid

    if place.repository.rpartition("/")[2] != descriptor.name:
        raise Invalid(f"{place} does not end with {descriptor.name!r}, the name of the extension.",
                      hint="A bundle lies in a repository that ends with its name, so that dependencies find it.")


def _ranges(entries: Any) -> list[str]:
    return [f"{entry['name']} {entry.get('range') or '*'}" for entry in entries or []]
