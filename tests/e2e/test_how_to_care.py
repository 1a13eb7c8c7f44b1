"""The commands on the pages about machines without internet and healthy installations work as written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from .conftest import Fuseml, installation

HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to"


def _commands(page: str) -> list[list[str]]:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line[2:])[1:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]


def test_the_commands_for_machines_without_internet_work(numbers: Fuseml, tmp_path: Path):
    *export, _import, _list, _verify = commands = _commands("install-without-internet.md")
    assert [command[1] for command in commands] == ["export", "show", "import", "list", "verify"]
    for command in export:
        numbers(*command, cwd=tmp_path)
    shutil.copy(numbers.home / "fz/keys/registry.pub", tmp_path)
    with installation(FUSEML_OFFLINE="1") as there:
        for command in (_import, _list, _verify):
            assert "numbers" in there(*command, cwd=tmp_path).out
        page = (HOW_TO / "keep-an-installation-healthy.md").read_text()
        for command in _commands("keep-an-installation-healthy.md"):
            there(*command, cwd=tmp_path)
        kinds = there("extension", "gc", "--only", "x", code=2).err
        for kind in re.findall(r"There are (.*)\.", kinds)[0].split(", "):
            assert f"`{kind}`" in page, f"the page does not tell about {kind}"
        checks = there.json("extension", "doctor")["checks"]
        assert len(checks) == 19
