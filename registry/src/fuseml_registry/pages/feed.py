"""New versions of a package as an Atom feed (RFC 4287)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from fuseml_registry.pages.links import Links
from fuseml_registry.pages.text import visible

_ATOM = "http://www.w3.org/2005/Atom"
#: Entries of a feed.
LENGTH = 50


def atom(name: str, summary: str, repository: str, versions: Sequence[dict[str, Any]], links: Links) -> bytes:
    """Write the feed of a package.

    Args:
        name: Of the package.
        summary: What it is.
        repository: Where it is.
        versions: Documents of its versions.
        links: Addresses of pages.
    """
    newest = sorted(versions, key=lambda entry: str(entry["pushed_at"]), reverse=True)[:LENGTH]
    page = links.absolute(links.package(repository))
    feed = ET.Element("feed", {"xmlns": _ATOM})
    _add(feed, "id", page)
    _add(feed, "title", f"New versions of {name}")
    _add(feed, "subtitle", summary)
    _add(feed, "updated", newest[0]["pushed_at"] if newest else "1970-01-01T00:00:00Z")
    _add(_add(feed, "author"), "name", links.absolute(links.search()))
    _add(feed, "link", rel="self", href=links.absolute(links.part(repository, "feed.atom")))
    _add(feed, "link", rel="alternate", href=page)
    for version in newest:
        entry = _add(feed, "entry")
        _add(entry, "id", f"{page}#{version['digest']}:{version['version']}")
        _add(entry, "title", f"{name} {version['version']}{' (yanked)' if version['advice'] == 'yanked' else ''}")
        _add(entry, "updated", version["pushed_at"])
        _add(entry, "link", rel="alternate", href=links.absolute(links.version(repository, version["version"])))
        _add(entry, "summary", f"{name} {version['version']}, {version['digest']}")
    data: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return data


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = visible(text) or None
    return child
