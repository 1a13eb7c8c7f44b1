"""Links resolve, generated pages are current, and the pages say what the code does."""

from __future__ import annotations

import importlib.util
import re
import string
from pathlib import Path
from types import ModuleType

import pytest

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
COMMAND = "python3 -m venv .uv && .uv/bin/pip install -q uv && .uv/bin/uv run "


@pytest.fixture(scope="module")
def pages(files) -> list[Path]:
    """Every page that is, or would be, committed."""
    return [path for path in files if path.suffix == ".md"]


@pytest.fixture(scope="module")
def generate(root) -> ModuleType:
    """The program that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("generate", root / "docs/reference/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    keep = string.ascii_lowercase + string.digits + "-_ "
    return {"".join(c for c in heading.lower() if c in keep).replace(" ", "-") for heading in headings}


def test_links_between_pages_resolve(pages, root):
    """To a file that is there and, with a `#`, to a heading in it."""
    broken = []
    for page in pages:
        for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            if "://" in target or target.startswith("mailto:"):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.is_file() or (anchor and anchor not in _anchors(path)):
                broken.append(f"{page.relative_to(root)}: {target}")
    assert broken == []


def test_the_first_screen_of_the_readme_has_the_two_commands(root):
    """Whoever opens the project sees how to try it and how to test it, without scrolling."""
    screen = "\n".join((root / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    assert COMMAND + "fuseml quickstart\n" in screen
    assert COMMAND + "tox\n" in screen


@pytest.mark.parametrize("name", ["errors", "runnable", "template", "extension-manifest", "cli", "http-api", "lint-rules",
                                  "hooks", "compatibility"])
def test_the_reference_is_what_the_code_says(root, generate, name):
    """`tox -e reference` was run after the last change."""
    text = (root / f"docs/reference/{name}.md").read_text(encoding="utf-8")
    assert text == generate.render(text)


def test_r1_every_setting_is_documented(root):
    """The reference of the environment lists each variable that the settings read, and no other."""
    page = (root / "docs/reference/environment.md").read_text(encoding="utf-8")
    code = (root / "fuseml_core/settings.py").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(FUSEML_\w+)`", page, re.MULTILINE))
    read = set(re.findall(r'"(FUSEML_\w+)"', code))
    assert documented - {"FUSEML_DEBUG"} == read - {"FUSEML_DEBUG"}


def test_every_decision_is_listed_and_complete(root):
    """Context, decision and consequences on one page, and a line in the list."""
    listing = (root / "docs/adr/README.md").read_text(encoding="utf-8")
    for page in sorted((root / "docs/adr").glob("0*.md")):
        text = page.read_text(encoding="utf-8")
        assert f"]({page.name})" in listing
        assert re.match(rf"# {page.name[:4]} — ", text), page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert len(text.splitlines()) <= 60, page.name


def test_r8_r81_r84_r104_where_we_differ_a_decision_says_why(root):
    """A reader who knows the requirement finds the reason for the difference."""
    listing = (root / "docs/adr/README.md").read_text(encoding="utf-8")
    for number, decision in {
        "R8": "facades-are-use-cases",
        "R81": "builder-logic-is-a-versioned-bundle",
        "R84": "no-dockerfile-on-one-machine",
        "R104": "no-mlflow-run",
    }.items():
        assert re.search(rf"-{decision}\.md\) \|.*\| {number} \|", listing)
        assert f"({number})" in next((root / "docs/adr").glob(f"*-{decision}.md")).read_text(encoding="utf-8")
