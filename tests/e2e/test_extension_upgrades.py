"""Extensions upgraded, rolled back, locked and taken away as an administrator types it, with pipelines on top."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/upgrade-and-roll-back-extensions.md"
SOURCE = Path(__file__).parent / "bundles/numbers"


def bundle(folder: Path, version: str, more: str = "", factor: float = 1.0) -> Path:
    """The bundle `numbers` under the name `sums`, in which the factor is another in each version."""
    shutil.copytree(SOURCE, folder)
    text = (folder / "extension.toml").read_text().replace('name = "numbers"', 'name = "sums"')
    (folder / "extension.toml").write_text(text.replace("0.1.0", version) + more)
    template = folder / "templates/mean-training.yaml"
    template.write_text(template.read_text().replace("default: 1.0", f"default: {factor}"))
    return folder


@pytest.fixture
def sums(project, tmp_path):
    """The project's installation, with `sums` 0.1.0 installed and 0.2.0 pushed."""
    fuseml = project.fuseml
    for version, factor, more in (("0.1.0", 1.0, ""), ("0.2.0", 3.0, 'permissions = [{name = "network", reason = "to ask"}]\n')):
        fuseml("bundle", "push", str(bundle(tmp_path / version, version, more, factor)))
    fuseml("extension", "install", "sums:0.1.0")
    yield fuseml
    project("pipeline", "remove", "training-pipeline", code=None)
    fuseml("extension", "uninstall", "sums", "--force", code=None)


def version(fuseml) -> str:
    return fuseml.json("extension", "info", "sums")["version"]


def test_r171_upgrade_pipeline_update_and_rollback_as_an_administrator_does_it(project, sums, tmp_path):
    project("pipeline", "add", "sums/mean-training", "--name", "training-pipeline", "--input", "code=code://*")
    planned = sums("extension", "upgrade", "sums", "--dry-run").out
    assert "upgrade sums 0.1.0 → 0.2.0" in planned
    assert re.search(r"\+ permission network \((enforced by a filter|declared only: ).*\): to ask", planned)
    assert "signed by sha256:" in planned
    assert "nothing was changed" in planned
    assert version(sums) == "0.1.0"

    upgraded = sums("extension", "upgrade", "sums")
    assert "Extension sums 0.2.0 is active." in upgraded.out
    assert "It may use network (" in upgraded.out
    project.push(numbers="1 2 3\n")
    means = [m["value"] for m in project.run("training-pipeline/1")["steps"]["fit"]["metrics"] if m["key"] == "mean"]
    assert means == [2.0], "the pipeline keeps the version it was added with"
    planned = project("pipeline", "update", "training-pipeline", "--dry-run").out
    assert "extension sums 0.1.0 → 0.2.0" in planned
    assert "parameter factor changes: default 1.0 → 3.0" in planned
    assert "Pipeline training-pipeline is updated" in project("pipeline", "update", "training-pipeline").out
    assert "up to date" in project("pipeline", "update", "training-pipeline").out
    project.push(numbers="1 2 3 \n")
    means = [m["value"] for m in project.run("training-pipeline/2")["steps"]["fit"]["metrics"] if m["key"] == "mean"]
    assert means == [6.0]

    shown = sums("extension", "history").out
    assert "upgrade sums" in shown
    assert "Extension sums 0.1.0 is active." in sums("extension", "rollback").out
    assert version(sums) == "0.1.0"
    newest = sums.json("extension", "history")[0]
    assert (newest["current"], newest["cause"][:11]) == (True, "rollback to")
    assert next(m for m in newest["members"] if m["name"] == "sums")["trust"]["signers"]
    assert "Generation" in sums("extension", "info", "sums").out


def test_r172_the_how_tos_commands_work_as_the_page_shows_them(project, sums, tmp_path):
    """`mlflow` on the page stands for any extension; here it is a small one."""
    project("pipeline", "add", "sums/mean-training", "--name", "training-pipeline", "--input", "code=code://*")
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]
    assert len(commands) == 9
    for command in commands:
        arguments = shlex.split(command.replace("mlflow", "sums"))[1:]
        own = ["--project", project.name] if arguments[0] == "pipeline" else []
        code = 5 if arguments[1] == "uninstall" else 0  # the pipeline still uses it
        done = sums(*arguments, *own, code=code, cwd=tmp_path)
        assert done.out or code
    assert version(sums) == "0.1.0"
    project("pipeline", "remove", "training-pipeline")
    assert "remove sums 0.1.0" in sums("extension", "uninstall", "sums", "--prune", "--dry-run").out
    assert version(sums) == "0.1.0"


def test_a_lock_refuses_another_digest_and_refusals_say_what_to_do(sums, tmp_path):
    sums("extension", "lock", "-o", "fuseml.lock", cwd=tmp_path)
    text = (tmp_path / "fuseml.lock").read_text()
    sums("extension", "upgrade", "sums")
    again = sums("extension", "install", "--locked", "fuseml.lock", "sums", cwd=tmp_path)
    assert "Extension sums 0.1.0 is active." in again.out
    digest = re.search(r"sums:0\.1\.0@(sha256:[0-9a-f]{64})", text)[1]
    (tmp_path / "wrong.lock").write_text(text.replace(digest, "sha256:" + "0" * 64))
    refused = sums("extension", "install", "--locked", "wrong.lock", "sums", cwd=tmp_path, code=None)
    assert refused.code != 0
    assert "0000" in refused.err
    assert version(sums) == "0.1.0"
    assert "Name extensions to upgrade" in sums("extension", "upgrade", code=2).err
    assert "there is no generation 9999" in sums("extension", "rollback", "9999", code=3).err
    assert "write NAME.KEY" in sums("extension", "install", "sums", "--set", "x=1", code=2).err
    plan = json.loads(sums("extension", "upgrade", "--all", "--dry-run", "-o", "json").out)["plan"]
    assert [change["name"] for change in plan["changes"]] == ["sums"]


@pytest.mark.full
def test_r171_a_server_that_is_killed_while_it_upgrades_comes_back_with_one_generation_whole(sums, tmp_path):
    """The launcher starts the control process again; the command is repeated and succeeds."""
    seen = set()
    for moment in (0.3, 0.4, 0.6):
        sums("extension", "install", "sums:0.1.0")
        command = sums.begin("extension", "upgrade", "sums")
        time.sleep(moment)
        sums.kill("control")
        command.communicate(timeout=120)
        sums.wait_for(lambda: sums("extension", "info", "sums", code=None).code == 0, 120, "the server's return")
        found = sums.json("extension", "info", "sums")
        member = next(m for m in sums.json("extension", "history")[0]["members"] if m["name"] == "sums")
        assert found["version"] == member["version"]
        seen.add(found["version"])
        sums("extension", "upgrade", "sums")
        assert version(sums) == "0.2.0"
    assert seen <= {"0.1.0", "0.2.0"}
