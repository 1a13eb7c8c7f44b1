"""Icons from strangers: pictures that carry nothing but a picture."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from fuseml_sdk.errors import InvalidInput

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_ELEMENTS = 5000
#: Elements that run code, embed other documents, or fetch.
_ACTIVE = frozenset({"script", "foreignobject", "iframe", "object", "embed", "audio", "video", "animate", "set",
                     "handler", "listener", "image", "feimage"})
_FETCHES = re.compile(r"url\s*\(\s*['\"]?\s*(?!#)|@import|expression\s*\(|javascript:", re.IGNORECASE)


def check_icon(data: bytes, title: str) -> None:
    """Refuse an icon that is not just a picture.

    Args:
        data: Its bytes.
        title: File name, which says what it must be.

    Raises:
        InvalidInput: It is no SVG or PNG, or has scripts, event handlers, entities, or references to elsewhere.
    """
    if title.endswith(".png"):
        if not data.startswith(_PNG):
            raise InvalidInput(f"{title} is not a PNG picture")
        return
    if b"<!DOCTYPE" in data.upper() or b"<!ENTITY" in data.upper() or b"\0" in data:
        raise InvalidInput(f"{title} has a document type or entities; icons are plain SVG",
                           hint="Delete the `<!DOCTYPE …>` line.")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - entities were refused above
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise InvalidInput(f"{title} is not an SVG picture: {error}") from None
    if _local(root.tag) != "svg":
        raise InvalidInput(f"{title} is not an SVG picture: its root is {_local(root.tag)[:50]!r}")
    for number, element in enumerate(root.iter(), start=1):
        if number > _MAX_ELEMENTS:
            raise InvalidInput(f"{title} has more than {_MAX_ELEMENTS} elements")
        _check_element(element, title)


def _check_element(element: ElementTree.Element, title: str) -> None:
    name = _local(element.tag)
    if name.lower() in _ACTIVE:
        raise InvalidInput(f"{title} has the element {name[:50]!r}; icons run nothing and embed nothing",
                           hint="Draw it with shapes only.")
    for key, value in element.attrib.items():
        attribute = _local(key).lower()
        if attribute.startswith("on"):
            raise InvalidInput(f"{title} has the event handler {attribute[:50]!r}; icons run nothing")
        if attribute in ("href", "src") and not value.strip().startswith("#"):
            raise InvalidInput(f"{title} refers to {value[:100]!r}; icons fetch nothing")
        if _FETCHES.search(value):
            raise InvalidInput(f"{title}: {attribute[:50]} refers to something elsewhere; icons fetch nothing")
    if name.lower() == "style" and _FETCHES.search(element.text or ""):
        raise InvalidInput(f"{title}: its style refers to something elsewhere; icons fetch nothing")


def _local(name: object) -> str:
    """A name without its namespace; comments and instructions have none."""
    return name.rpartition("}")[2] if isinstance(name, str) else ""
