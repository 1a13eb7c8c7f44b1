"""Bundles made to harm whoever looks at them: nothing they contain runs, loads, hides or reorders anything."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from html.parser import HTMLParser

import pytest

from fuseml_registry.pages.readme import MAX_SOURCE, render
from fuseml_registry.pages.text import size_text, visible

SCRIPT = "<script>window.harmed = 1</script>"
BIDI = "\u202egnp.exe\u2066\u200b"
#: Elements that our own templates never make with contents of others, and attributes that run something.
FORBIDDEN = {"iframe", "object", "embed", "base", "style", "svg", "math", "video", "audio", "source", "template"}


class _Audit(HTMLParser):
    """Collects what could do harm in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.harmful: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in FORBIDDEN or any(name.startswith("on") or name == "style" for name in values):
            self.harmful.append(self.get_starttag_text() or tag)
        if tag == "script" and not re.fullmatch(r"/marketplace/static/script-[0-9a-f]{12}\.js", values.get("src", "")):
            self.harmful.append(self.get_starttag_text() or tag)
        for name in ("href", "src", "action", "formaction", "poster", "srcset"):
            if name in values and not re.match(r"(https?://|mailto:|/marketplace/|#|\?)", values[name]):
                self.harmful.append(f"{tag} {name}={values[name]!r}")
        if tag == "img" and not values.get("src", "").startswith("/marketplace/"):
            self.harmful.append(f"picture from {values.get('src')!r}")


def _check(page: str) -> None:
    audit = _Audit()
    audit.feed(page)
    assert audit.harmful == []
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f]", page)


@pytest.fixture(scope="module")
def hostile(market) -> str:
    """A bundle with something bad in every place that a page shows."""
    bad = f'"\'>{SCRIPT}{BIDI}'
    market.push_raw(
        "hostile/all", {
            "name": "all", "summary": f"Summary {bad}"[:200], "description": f"Text {bad} [x](javascript:1)", "licence": bad,
            "links": {bad: "javascript:alert(1)", "data": "data:text/html,x", "odd": "https://a\" onclick=\"x", "ok": "https://example.org/"},
            "permissions": [{"name": bad, "reason": bad}], "conflicts": [{"name": bad, "range": bad}],
            "dependencies": [{"name": "../../etc", "range": bad}, {"name": bad, "range": "*"}],
            "config_schema": {"properties": {bad: {"type": [bad, 7], "default": {bad: bad}, "enum": [bad, [bad]], "description": bad},
                                             "b": bad}, "required": bad},
            "requires_fuseml": bad},
        readme=(f"# {bad}\n\n{SCRIPT}\n<img src=x onerror=alert(1)>\n\n[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) "
                "[c](data:text/html;base64,xx) [d](vbscript:x) [e](//evil.example) [f](../up) [g](/v2/) "
                "[h](&#106;avascript:alert(1)) [i](https://example.org/?a=\"b) <javascript:alert(1)> <https://auto.example>\n\n"
                "![pixel](https://evil.example/track.png) ![q](data:image/svg+xml,x)\n\n&#x202e;reversed &lt;script&gt;\n\n"
                f"```html {bad}\n{SCRIPT}\n```\n\n| a |\n|--|\n| {SCRIPT} |\n").encode() + b"\xff\xfe\x80 broken\n",
        icon=b'<svg xmlns="http://www.w3.org/2000/svg" onload="parent.harmed=1"><script>window.harmed=1</script></svg>',
        runnables=[{"name": bad, "command": ["x"], "description": bad, "parameters": [
            {"name": "p", "default": bad, "description": bad, "choices": [bad]}]}],
        templates=[{"name": "t", "summary": bad, "description": bad, "inputs": {bad: {"kind": bad, "types": [bad], "description": bad}},
                    "parameters": {bad: {"type": bad, "default": bad, "default_from": bad}},
                    "steps": {bad: {"runnable": bad, "description": bad}}, "outputs": {bad: {"from": bad}}}])
    return "hostile/all"


def test_nothing_in_a_bundle_becomes_part_of_a_page(market, hostile):
    """Every place that shows text of strangers escapes it, and makes visible what hides or reorders."""
    time.sleep(1.1)
    pages = [market.page(f"/packages/{hostile}"), market.page("/?q=all"), market.page(f"/packages/{hostile}/-/versions"),
             market.page("/?q=" + requests_quote(f'"><script>{BIDI}')), market.page("/?keyword=" + requests_quote(SCRIPT))]
    for page in pages:
        _check(page)
    package = pages[0]
    assert "evil.example" not in re.sub(r'title="[^"]*"', "", package)
    assert "Picture: pixel" in package
    assert 'href="https://example.org/?a=%22b"' in package
    assert 'href="https://auto.example"' in package
    assert package.count('href="https://example.org/"') == 1
    assert "\ufffd" in package


def requests_quote(text: str) -> str:
    from urllib.parse import quote

    return quote(text)


def test_documents_for_programs_are_plain_ascii(market, hostile):
    """What a terminal or a log would obey is escaped."""
    answer = market.http.get(f"{market.url}/api/packages/{hostile}", timeout=20)
    assert answer.content.isascii()
    assert answer.headers["Content-Type"] == "application/json"
    assert [link["followed"] for link in answer.json()["links"]] == [False, False, False, True]


def test_a_picture_with_a_script_is_only_a_picture(market, hostile):
    """Loaded as <img>, and sandboxed for who opens it by itself."""
    assert f'<img class="icon" src="/marketplace/packages/{hostile}/-/1.0.0/icon" alt=""' in market.page(f"/packages/{hostile}")
    headers = market.http.get(f"{market.url}/packages/{hostile}/-/1.0.0/icon", timeout=20).headers
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_version_under_a_foreign_tag_is_named_as_such(market):
    """Our tools cannot push this, others can."""
    market.push_raw("hostile/tag", {"name": "tag", "version": "0.1.0"}, tag="9.0.0")
    assert "lies under the tag 9.0.0, but calls itself 0.1.0" in market.page("/packages/hostile/tag")


@pytest.mark.parametrize(("manifest", "descriptor"), [
    ({}, {"runnables": "none"}), ({}, {"templates": [{"name": "UPPER", "steps": {}}]}), ({"unknown": 1}, {}),
], ids=["wrong-type", "wrong-template", "unknown-field"])
def test_what_is_no_bundle_is_no_package(market, request, manifest, descriptor):
    """The list is shown without it."""
    name = f"hostile/{request.node.callspec.id}"
    market.push_raw(name, {"name": "broken", **manifest}, **descriptor)
    time.sleep(1.1)
    assert name not in [entry["repository"] for entry in market.json("/search?namespace=hostile")["packages"]]
    market.page(f"/packages/{name}", 404)


def test_a_large_readme_is_cut_and_offered_whole(market):
    """1 MiB of text is not 1 MiB of page."""
    text = b"word " * (1 << 18)
    market.push_raw("hostile/large", {"name": "large"}, readme=text[:1 << 20])
    page = market.page("/packages/hostile/large")
    assert len(page) < 2 * MAX_SOURCE
    assert "Only the first 128 KiB are shown." in page
    assert len(market.page("/packages/hostile/large/-/1.0.0/readme")) == 1 << 20


@pytest.mark.parametrize("pattern", ["[", "![a](", "*a ", "> ", "`a``", "|a", "- a\n ", "[a]: b\n", "_a_ "])
def test_no_readme_takes_long(pattern):
    """Text that is slow to parse is shown as it is."""
    began = time.monotonic()
    html, _ = render((pattern * MAX_SOURCE)[:1 << 20].encode())
    assert time.monotonic() - began < 8
    _check(str(html))


def test_many_things_in_one_bundle_make_no_endless_page(market):
    """Lists are cut, and say so."""
    market.push_raw("hostile/many", {"name": "many", "permissions": [{"name": f"p{i}", "reason": "r"} for i in range(5000)]},
                    runnables=[{"name": f"r{i}", "command": ["x"]} for i in range(5000)])
    page = market.page("/packages/hostile/many")
    assert len(page) < 500_000
    assert "200 of 5000 runnables are shown" in page


def test_pages_do_not_hold_up_the_event_loop():
    """While threads of the pages work on a slow README, other coroutines of the process go on."""
    from concurrent.futures import ThreadPoolExecutor

    async def run() -> float:
        loop, worst = asyncio.get_running_loop(), 0.0
        with ThreadPoolExecutor(4) as pool:
            work = [loop.run_in_executor(pool, render, b"[a](" * (MAX_SOURCE // 4)) for _ in range(4)]
            while not all(future.done() for future in work):
                began = time.monotonic()
                await asyncio.sleep(0.005)
                worst = max(worst, time.monotonic() - began)
        return worst

    assert asyncio.run(run()) < 0.5
    assert threading.active_count() < 50


def test_text_and_sizes_for_people():
    """Joiners of scripts and emoji stay; marks that reorder or hide do not."""
    assert visible("می\u200cخواهم 👩\u200d🔬 a\tb\n") == "می\u200cخواهم 👩\u200d🔬 a\tb\n"
    assert visible("a\u202eb\x1b[31m\x00\u2028") == "a\ufffdb\ufffd[31m\ufffd\ufffd"
    assert [size_text(n) for n in (0, 999, 1000, 1024, 102400, 1 << 20, 5 << 30)] == [
        "0 B", "999 B", "1.0 KiB", "1.0 KiB", "100 KiB", "1.0 MiB", "5.0 GiB"]
