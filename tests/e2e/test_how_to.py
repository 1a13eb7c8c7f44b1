"""The extension that the how-to pages write, file by file, can be built, installed and used as they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to"


def _file(page: str, name: str) -> str:
    """The block that follows the mention of a file as `name`: or `name` …: on a page."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    found = re.search(rf"`{re.escape(name)}`[^\n]*:\n\n```\w+\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found, f"{page} shows no {name}"
    return found[1]


@pytest.fixture
def counting(tmp_path) -> Path:
    """The source folder of the extension, copied from the pages."""
    folder = tmp_path / "counting"
    for target, page, name in (
        ("extension.toml", "package-an-extension.md", "extension.toml"),
        ("files/count.py", "write-a-runnable.md", "count.py"),
        ("runnables/count.json", "write-a-runnable.md", "count.json"),
        ("templates/count-lines.yaml", "package-an-extension.md", "templates/count-lines.yaml"),
    ):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(_file(page, name))
    return folder


def _commands(page: str) -> list[str]:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]


def test_r39_r41_r42_r43_r111_the_pages_bundle_is_valid(counting):
    """Kind, entry point, typed inputs and outputs; the graph is wired from them."""
    from fuseml_oci.bundles import build

    bundle = build(counting)

    (runnable,) = bundle.descriptor.runnables
    assert (runnable.kind, runnable.name) == ("transformer", "count")
    assert [i.kind for i in runnable.inputs] == ["codeset"]
    assert [o.kind for o in runnable.outputs] == ["dataset"]
    assert [t.name for t in bundle.descriptor.templates] == ["count-lines"]
    assert build(counting).digest == bundle.digest


def test_r38_r170_r189_r190_the_pages_commands_work(project, counting):
    """Build, look, push, install, use: a runnable of one's own in a pipeline of one's own."""
    fuseml = project.fuseml
    for command in _commands("package-an-extension.md"):
        arguments = shlex.split(command)[1:]
        own = ["--project", project.name] if arguments[:2] == ["pipeline", "add"] else []
        fuseml(*arguments, *own, cwd=counting.parent)
    try:
        (project.folder / "a.txt").write_text("1\n2\n")
        project.push()
        run = project.run("lines/1")
        assert run["state"] == "succeeded"
        assert [m["value"] for m in run["steps"]["count"]["metrics"]] == [1.0]
        assert project.json("dataset", "list")[0]["type"] == "csv"
    finally:
        project("pipeline", "remove", "lines", code=None)
        fuseml("extension", "uninstall", "counting", code=None)
