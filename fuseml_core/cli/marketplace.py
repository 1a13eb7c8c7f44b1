"""`fuseml marketplace`: the catalogs that the server follows; and `fuseml extension search` through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

#: Seconds that fetching a catalog for the first time may take.
_PATIENCE = 660.0
_CHANNELS = click.Choice(["stable", "candidate", "edge"])

COLUMNS: list[Column] = [
    ("Name", "name"), ("Reference", "reference"), ("Version", "version"), ("Packages", "packages"),
    ("Channel", lambda item: item.get("channel") or "as each package says"), ("State", "state"),
    ("Checked", lambda item: moment(item.get("checked_at") or None)),
]
ITEM: list[Column] = [
    *COLUMNS, ("Catalog", "catalog"), ("Issued", "issued"), ("Expires", "expires"), ("Digest", "digest"),
    ("Keys", "keys"), ("Problem", "problem"),
]


def _source(item: dict[str, Any]) -> str:
    return "this server's registry" if item["source"] == "embedded" else str(item["source"])


def _remarks(item: dict[str, Any]) -> list[str]:
    lines = []
    if item.get("installed"):
        lines.append(f"installed: {item['installed']}" + (", can be upgraded" if item.get("upgrade") else ""))
    if item.get("incompatible"):
        lines.append(str(item["incompatible"]))
    if item.get("deprecated"):
        lines.append(f"deprecated: {item['deprecated']}")
    return lines


HITS: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("Channel", "channel"), ("From", _source), ("Summary", "summary"),
    ("Remarks", _remarks),
]
#: Columns of an extension that is known and not installed.
OFFER: list[Column] = [
    ("Name", "name"), ("Summary", "summary"), ("Description", "description"), ("From", _source),
    ("Repository", "repository"), ("Licence", "licence"), ("Keywords", "keywords"), ("Brings", "kinds"),
    ("Channels", lambda item: [f"{channel}: {', '.join(versions)}" for channel, versions in item["channels"].items()]),
    ("Versions", lambda item: [_version(version) for version in item["versions"]]),
    ("Advice", lambda item: [_advice(entry) for entry in item.get("deprecations") or []]),
    ("Signers", "signers"), ("Installed", "installed"), ("Links", "links"),
]


def _version(version: dict[str, Any]) -> str:
    notes = [version["incompatible"]] if version.get("incompatible") else []
    if version.get("yanked"):
        notes.append(f"yanked: {version['yanked']['reason']}")
    needs = ", ".join(f"{need['name']} {need.get('range') or '*'}" for need in version.get("dependencies") or [])
    return f"{version['version']}{', needs ' + needs if needs else ''}" + "".join(f"; {note}" for note in notes)


def _advice(entry: dict[str, Any]) -> str:
    about = entry.get("version") or entry.get("channel") or "all versions"
    return f"{about}: {entry['message']}" + (f" Use {entry['replacement']}." if entry.get("replacement") else "")


@click.group()
def marketplace() -> None:
    """Marketplaces: signed catalogs of extensions that the server follows."""


@marketplace.command("add")
@click.argument("name")
@click.argument("reference")
@click.option("--key", "keys", multiple=True, required=True, metavar="NAME|FILE",
              help="Public key of the curators, or of a mirror. Repeatable: one of them must have signed.")
@click.option("--channel", type=_CHANNELS, help="Take versions of this channel by default.")
@output_option
def add(name: str, reference: str, keys: tuple[str, ...], channel: str | None, output: str) -> None:
    """Follow the catalog at REFERENCE (oci://host/namespace/catalog) under NAME.

    Extensions are then installed by name. A catalog is believed only if it is signed by one of the keys, so get them
    from the curators, not from the registry.
    """
    from fuseml_core.cli.key_files import key_store
    from fuseml_oci.signing.keys import load_public

    pems = [load_public(Path(key) if Path(key).exists() else key_store().public(key)).pem.decode() for key in keys]
    body = {"name": name, "reference": reference, "keys": pems, "channel": channel or ""}
    added = connect().post("marketplaces", body=body, timeout=_PATIENCE)
    if output != "table":
        show_data(added, output)
        return
    echo(f"Marketplace {name} has {_packages(added['packages'])} (version {added['version']} of the catalog "
         f"{added['catalog']}, good until {added['expires']}).")
    echo("Search it: fuseml extension search TEXT")


@marketplace.command("list")
@output_option
def list_(output: str) -> None:
    """List marketplaces, in the order in which names are looked up."""
    show_list(connect().get("marketplaces"), output, COLUMNS,
              empty="No marketplace. Add one: fuseml marketplace add NAME REFERENCE --key FILE")


@marketplace.command("get")
@click.argument("name")
@output_option
def get(name: str, output: str) -> None:
    """Show the marketplace NAME."""
    show_item(connect().get("marketplaces", name), output, ITEM)


@marketplace.command("update")
@click.argument("name", required=False)
@output_option
def update(name: str | None, output: str) -> int:
    """Fetch what changed in the catalog of NAME, or of all marketplaces.

    The server also does so by itself, every six hours. When a catalog cannot be fetched or verified, the one fetched
    before goes on being used.
    """
    from fuseml_core.domain.errors import FusemlError

    client, done, failure = connect(), [], None
    for entry in [name] if name else [item["name"] for item in client.get("marketplaces")]:
        try:
            done.append(client.post("marketplaces", entry, "update", timeout=_PATIENCE))
        except FusemlError as error:
            if name:
                raise
            failure = error
            echo(f"{error.message}" + (f" {error.hint}" if error.hint else ""), err=True)
    if output != "table":
        show_data(done, output)
    else:
        for item in done:
            changes = len(item["changed"]) + len(item["removed"])
            echo(f"{item['name']}: version {item['version']}, {_packages(item['packages'])}, {changes} changed.")
    return failure.exit_code if failure else 0


@marketplace.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget the marketplace NAME; extensions installed from it stay."""
    connect().delete("marketplaces", name)
    echo(f"Marketplace {name} is removed.")


@click.command("search")
@click.argument("text", nargs=-1)
@click.option("--channel", type=_CHANNELS, help="Only what this channel offers.")
@click.option("--keyword", metavar="WORD", help="Only extensions with this keyword.")
@click.option("--kind", type=click.Choice(["store", "agent", "builder", "runnable", "template"]),
              help="Only extensions that bring such a thing.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="Hits to show.")
@output_option
def search(text: tuple[str, ...], channel: str | None, keyword: str | None, kind: str | None, limit: int,
           output: str) -> None:
    """Search this server's registry and its marketplaces for extensions that contain all words of TEXT."""
    query = {"text": " ".join(text), "channel": channel or "", "keyword": keyword or "", "kind": kind or "",
             "limit": limit}
    found = connect().get("offers", query=query)
    if output != "table":
        show_data(found, output)
        return
    for entry in found["marketplaces"]:
        remedy = entry["problem"] or f"Update it: fuseml marketplace update {entry['name']}"
        echo(f"The catalog of the marketplace {entry['name']} is {entry['state']}. {remedy}", err=True)
    show_list(found["items"], output, HITS, empty="Nothing found.")
    if found["total"] > len(found["items"]):
        echo(f"{found['total'] - len(found['items'])} more; narrow the search, or raise --limit.", err=True)
    for facet, values in found["facets"].items():
        if found["total"] > 1 and len(values) > 1:
            echo(f"--{facet}: " + ", ".join(f"{value} ({count})" for value, count in values.items()), err=True)


def _packages(count: int) -> str:
    return f"{count} package" + ("" if count == 1 else "s")
