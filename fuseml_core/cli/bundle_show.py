"""`fuseml bundle inspect|diff`: look into bundles without unpacking them."""

from __future__ import annotations

import re
from typing import Any

import click

from fuseml_core.cli.bundle_places import open_subject
from fuseml_core.cli.cells import size
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

#: Exit code of `diff --exit-code` when there are differences, as of diff(1).
DIFFERENT = 1
ITEM: list[Column] = [
    ("Name", "manifest.name"), ("Version", "manifest.version"), ("Summary", "manifest.summary"),
    ("Digest", "digest"), ("Licence", "manifest.licence"), ("Needs FuseML", "manifest.requires_fuseml"),
    ("Python", "manifest.environment.python"),
    ("Depends on", lambda item: _ranges(item["manifest"].get("dependencies"))),
    ("Conflicts with", lambda item: _ranges(item["manifest"].get("conflicts"))),
    ("Components", lambda item: [f"{c['family']} {c['name']}" for c in item["manifest"].get("components") or []]),
    ("Limits", lambda item: [f"{c['family']} {c['name']}: {limit} {value}"
                             for c in item["manifest"].get("components") or []
                             for limit, value in (c.get("limits") or {}).items()]),
    ("Runnables", lambda item: [runnable["name"] for runnable in item.get("runnables") or []]),
    ("Templates", lambda item: [template["name"] for template in item.get("templates") or []]),
    ("Permissions", lambda item: [f"{p['name']}: {p['reason']}" for p in item["manifest"].get("permissions") or []]),
    ("Settings", lambda item: list((item["manifest"].get("config_schema") or {}).get("properties") or {})),
    ("Accepted findings", lambda item: [f"{e['rule']}: {e['reason']}" for e in item["manifest"].get("lint") or []]),
    ("Layers", lambda item: [f"{layer['title']} ({size(layer['size'])})" for layer in item.get("layers") or []]),
    ("Size", lambda item: size(item["size"])), ("Attached", "referrers"),
]
CHANGES: list[Column] = [
    ("Part", "part"), ("Change", "kind"), ("What", "name"),
    ("Was", lambda item: _shortened(item["old"])), ("Is", lambda item: _shortened(item["new"])),
]


@click.command("inspect")
@click.argument("subject", metavar="REFERENCE|DIR|FILE")
@output_option
def inspect(subject: str, output: str) -> None:
    """Show what a bundle contains: in a registry, an .oci.tar file, an image layout or the folder of its source."""
    opened = open_subject(subject)
    document = opened.descriptor.model_dump(mode="json", by_alias=True)
    total = sum(layer.size for layer in opened.descriptor.layers)
    show_item({"place": opened.place, "digest": opened.digest, "size": total, **document,
               "referrers": list(opened.referrers or [])}, output, ITEM)


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@output_option
def diff(old: str, new: str, exit_code: bool, output: str) -> int:
    """Show what changes from the bundle OLD to NEW: folders of sources, .oci.tar files, layouts or references.

    Manifest, dependencies, permissions, settings, contents, lock, files and layers are compared.
    """
    from fuseml_oci.bundles.difference import compare

    before, after = open_subject(old), open_subject(new)
    changes = [] if before.digest == after.digest else [
        change.to_json() for change in compare(before.descriptor, after.descriptor, before.lock(), after.lock())]
    if output != "table":
        show_data({"old": {"place": before.place, "digest": before.digest},
                   "new": {"place": after.place, "digest": after.digest}, "changes": changes}, output)
    else:
        show_list(changes, output, CHANGES)
        if not changes:
            echo(f"Nothing differs: {after.digest}")
    return DIFFERENT if exit_code and changes else 0


def _shortened(value: Any) -> str:
    """For tables; JSON has digests in full."""
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", str(value)) if value else "-"


def _ranges(entries: Any) -> list[str]:
    return [f"{entry['name']} {entry.get('range') or '*'}" for entry in entries or []]
