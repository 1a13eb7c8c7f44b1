"""The pages about plugins in other languages: what they ask with curl is answered as they say, their commands work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIRE, HOW_TO = ROOT / "docs/reference/wire.md", ROOT / "docs/how-to/write-an-agent-in-another-language.md"
TIMEOUT = 120


@pytest.fixture
def socket_path():
    """Where the example's program listens."""
    node = shutil.which("node")
    assert node, "nodejs is not installed: apt-get install nodejs"
    folder = Path(tempfile.mkdtemp(prefix="fz-"))
    path = folder / "a.sock"
    process = subprocess.Popen(
        [node, "examples/node-agent/agent.mjs", "--state", str(folder / "jobs"), "--unix", str(path)], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
    with process, process.stdout as output:
        assert output.readline().split()[-1] == f"unix:{path}"
        yield path
        process.terminate()
        assert process.wait(30) == 0
    shutil.rmtree(folder)


def _examples(page: Path, path: Path) -> list[tuple[str, str]]:
    """Commands of a page with what it says they print."""
    text = re.sub(r"/tmp/(node-)?agent\.sock", str(path), page.read_text(encoding="utf-8"))
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown.strip()))
    return found


def _curl(command: str) -> str:
    assert shutil.which("curl"), "curl is not installed: apt-get install curl"
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _holds(shown, said) -> bool:
    """Whether everything that a page shows was said; the page may leave members of objects out."""
    if isinstance(shown, dict):
        return isinstance(said, dict) and all(key in said and _holds(value, said[key]) for key, value in shown.items())
    if isinstance(shown, list):
        return isinstance(said, list) and len(shown) == len(said) and all(map(_holds, shown, said))
    return shown == said


def _check(command: str, shown: str) -> None:
    said = _curl(command)
    if shown.startswith(("{", "[")):
        assert _holds(json.loads(shown), json.loads(said)), said
    else:
        assert said.startswith(shown), said


def test_r129_the_wire_is_as_its_page_says(socket_path):
    examples = [each for each in _examples(WIRE, socket_path) if each[0].startswith("curl ")]
    assert len(examples) >= 5
    for command, shown in examples:
        _check(command, shown)


def test_the_page_names_every_problem_type_with_its_status():
    from fuseml_sdk.errors import BY_TYPE

    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", WIRE.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {name: str(kind.status) for name, kind in BY_TYPE.items()}


def test_the_pages_limits_are_those_of_the_runtime():
    from fuseml_core.host.answers import MAX_ANSWER
    from fuseml_sdk.serve import wire

    text = WIRE.read_text(encoding="utf-8")
    assert f"| request line and headers | {wire.MAX_HEAD >> 10} KiB |" in text
    assert f"| body | {wire.MAX_BODY >> 20} MiB |" in text
    assert f"An answer has at most {MAX_ANSWER >> 20} MiB" in text
    assert f"once begun | {wire.TRANSFER_TIMEOUT:g} s |" in text


def test_the_pages_manifest_is_the_examples():
    """What the how-to shows of `extension.toml` is what the example says."""
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", HOW_TO.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert shown in (ROOT / "examples/node-agent/extension.toml").read_text(encoding="utf-8")


@pytest.mark.full
def test_r133_the_how_tos_commands_work(fuseml, socket_path):
    ran = 0
    for command, shown in _examples(HOW_TO, socket_path):
        if command.startswith("curl "):
            _check(command, shown)
        elif command.startswith("fuseml "):
            found = fuseml(*shlex.split(command)[1:])
            if command == "fuseml plugin list":
                assert re.search(r"node-agent/node +agent +node-agent 0\.1\.0 +address +ready", found.out)
            elif command.startswith("fuseml plugin info"):
                assert f"unix:{socket_path}" in found.out
                assert re.search(r"Contract: +different, protocol 1, no SDK", found.out)
        else:
            assert command.startswith("node "), command
            continue
        ran += 1
    assert ran >= 9
