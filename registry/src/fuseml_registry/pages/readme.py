"""Markdown of strangers as HTML: no raw HTML, no foreign images, no links but to the web, mail and the page itself."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from fuseml_registry.pages.text import visible

#: Bytes of a README that are rendered, and seconds that it may take; the whole text can be read as it is.
MAX_SOURCE = 128 << 10
TIME_LIMIT = 1.0
_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_NOT_SLUG = re.compile(r"[^\w\- ]")
#: The page has the levels of headings before this one for itself.
FIRST_LEVEL = 3


class _Markdown(MarkdownIt):
    """Leaves it to the renderer which links are followed, so that the text of the others is shown."""

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802
        """Take every link for one."""
        return True


class _Renderer(RendererHTML):
    """Writes links and images so that nothing is loaded and nothing leads back into the site."""

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """The alternative text instead of the picture."""
        alternative = self.renderInlineAsText(tokens[idx].children or [], options, env) or "no description"
        return f'<span class="picture">Picture: {escape(alternative)}</span>'

    def link_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        """A link to the web or to a heading; others are marked as leading nowhere."""
        target = str(tokens[idx].attrGet("href") or "")
        if _LINK.match(target):
            env.setdefault("open", []).append("a")
            return f'<a href="{escape(target)}" rel="nofollow noopener noreferrer ugc">'
        if target.startswith("#") and len(target) > 1:
            env.setdefault("open", []).append("a")
            return f'<a href="#readme-{escape(target[1:])}">'
        env.setdefault("open", []).append("span")
        return f'<span class="inert" title="A link inside the source: {escape(target[:200])}">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        """The end of what `link_open` began."""
        return f"</{env['open'].pop()}>"

    def table_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        """Tables may be wider than a small screen; then they scroll by themselves, also by keyboard."""
        env["tables"] = env.get("tables", 0) + 1
        return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {env["tables"]} of the text"><table>'

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        """A block of code, which may be wider than the screen, too."""
        return f'<pre tabindex="0"><code>{escape(tokens[idx].content)}</code></pre>\n'

    code_block = fence

    def table_close(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:  # noqa: ARG002
        """The end of a table."""
        return "</table></div>"


def render(data: bytes, *, name: str = "") -> tuple[Markup, str]:
    """Render a README.

    Args:
        data: Markdown in UTF-8; wrong bytes are shown as U+FFFD.
        name: A first heading that only repeats this name is left out.

    Returns:
        HTML, and a note about what is missing or changed (empty if nothing is).
    """
    text = visible(data[:MAX_SOURCE].decode("utf-8", "replace").replace("\r\n", "\n"))
    note = ""
    if len(data) > MAX_SOURCE:
        text = text.rpartition("\n")[0] or text
        note = f"Only the first {MAX_SOURCE >> 10} KiB are shown."
    try:
        html = _markdown(time.monotonic() + TIME_LIMIT, name).render(text)
    except (TimeoutError, RecursionError):
        return Markup("<pre>{}</pre>").format(text), "The text is shown as it is: it takes too long to render."
    return Markup(visible(html)), note  # noqa: S704 - escaped by the renderer


def _markdown(deadline: float, name: str) -> MarkdownIt:
    markdown = _Markdown("commonmark", {"html": False, "maxNesting": 20}, renderer_cls=_Renderer)
    markdown.enable(["table", "strikethrough"]).disable(["html_block", "html_inline"])

    def in_time(state: StateBlock | StateInline, *_: Any) -> bool:  # noqa: ARG001
        if time.monotonic() > deadline:
            raise TimeoutError
        return False

    markdown.inline.ruler.before("text", "in_time", in_time)
    markdown.block.ruler.before("table", "in_time", in_time)
    markdown.core.ruler.push("headings", lambda state: _headings(state.tokens, name))
    return markdown


def _headings(tokens: list[Token], name: str) -> None:
    """Give headings names to link to and levels below those of the page; drop a title that only repeats the name."""
    if len(tokens) > 2 and tokens[0].tag == "h1" and tokens[1].content.strip().casefold() == name.casefold():
        del tokens[:3]
    seen: dict[str, int] = {}
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            slug = _NOT_SLUG.sub("", inline.content.strip().lower()).replace(" ", "-")[:100]
            seen[slug] = seen.get(slug, -1) + 1
            token.attrSet("id", f"readme-{slug}" + (f"-{seen[slug]}" if seen[slug] else ""))
    _lower([token for token in tokens if token.type in ("heading_open", "heading_close")])


def _lower(headings: list[Token]) -> None:
    """Begin with the level below those of the page, and leave none out on the way down."""
    top, before = min((int(token.tag[1]) for token in headings), default=1), FIRST_LEVEL - 1
    for token in headings:
        level = min(int(token.tag[1]) - top + FIRST_LEVEL, 6)
        before = min(level, before + 1) if token.type == "heading_open" else before
        token.tag = f"h{before}"
