"""Templates and what they can use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fuseml_registry.pages.entries import KINDS
from fuseml_registry.pages.links import Links
from fuseml_registry.pages.text import day_text, paragraphs, short_digest, shortened, size_text, visible

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Static:
    """A file that pages need, under a name that changes with its contents."""

    name: str
    data: bytes
    media_type: str


class Renderer:
    """Fills templates. Everything that they print is escaped and made visible.

    Args:
        engine: Version of this server, empty if the registry stands alone.
    """

    def __init__(self, engine: str) -> None:
        self.static = _static_files()
        self._environment = Environment(loader=PackageLoader("fuseml_registry.pages"), autoescape=True,
                                        undefined=StrictUndefined, finalize=_shown, trim_blocks=True,
                                        lstrip_blocks=True, auto_reload=False)
        self._environment.filters.update(size=size_text, day=day_text, digest=short_digest, shortened=shortened,
                                         choice=_choice, paragraphs=paragraphs)
        self._environment.globals.update(KINDS=KINDS, engine=engine,
                                         static_names={file.name.rpartition("-")[0]: file.name
                                                       for file in self.static.values()})

    def render(self, template: str, links: Links, **values: Any) -> str:
        """Fill one template."""
        return self._environment.get_template(template).render(links=links, **values)


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


def _choice(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _static_files() -> dict[str, Static]:
    found = {}
    for entry in files("fuseml_registry.pages").joinpath("static").iterdir():
        stem, dot, suffix = entry.name.rpartition(".")
        if stem and f"{dot}{suffix}" in _TYPES:
            data = entry.read_bytes()
            name = f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"
            found[name] = Static(name, data, _TYPES[f"{dot}{suffix}"])
    return found
