"""The tutorial's commands work as they stand, one after the other, in a home of their own."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "docs/tutorial/first-model.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND_TIMEOUT = 900


def commands() -> list[str]:
    """What a reader types: the lines after `$ ` of every console block, continuation lines joined."""
    typed = []
    for block in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        typed += [line[2:] for line in block.replace("\\\n", "").splitlines() if line.startswith("$ ")]
    return typed


def test_r174_r175_r176_r177_r183_the_tutorial_has_the_literal_commands_of_the_design():
    """The forms that the requirements give are among what the reader types."""
    text = "\n".join(commands())

    assert "fuseml project create myproj" in text
    assert "fuseml project set myproj" in text
    assert "--name training-pipeline --input mlflow_code='code://*'" in text
    assert "--name serving-pipeline --input model='model://*'" in text
    assert "fuseml pipeline results show --current-code --recursive" in text


@pytest.mark.full
@pytest.mark.timeout(2400)
def test_the_tutorial_works(fuseml):
    """Every command succeeds, in order; the fixture checks that nothing runs any more at the end."""
    outputs: dict[str, str] = {}
    for command in commands():
        started = time.monotonic()
        done = subprocess.run(shlex.split(command), cwd=fuseml.cwd, env=fuseml.environment, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=COMMAND_TIMEOUT)
        outputs[command] = done.stdout
        print(f"$ {command}   ({time.monotonic() - started:.1f} s)\n{done.stdout}")
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"

    results = outputs["fuseml pipeline results show --current-code --recursive"]
    assert "training-pipeline/1" in results
    assert "serving-pipeline/1" in results
    assert "sklearn (default)" in results
