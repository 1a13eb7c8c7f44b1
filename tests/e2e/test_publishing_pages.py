"""The tutorial for authors and curators, and the page for curators after it, work as they stand."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import FUSEML, Fuseml, installation

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return [line[2:] for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def place(tmp_path) -> Iterator[tuple[Fuseml, Path, int]]:
    """An installation, an empty folder, and the port of `fuseml registry serve`."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    with installation(FUSEML_KEY_PASSWORD="choose a better one") as fuseml:
        registry = subprocess.Popen([FUSEML, "registry", "serve", "--root", "registry", "--port", str(port)],
                                    cwd=tmp_path, env=fuseml.environment, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield fuseml, tmp_path, port
        finally:
            registry.terminate()
            registry.wait(30)


def run(command: str, fuseml: Fuseml, folder: Path, port: int) -> str:
    words = shlex.split(command.replace("localhost:5000", f"localhost:{port}"))
    done = subprocess.run(words, cwd=folder, env=fuseml.environment, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    print(f"$ {command}   [{done.returncode}]\n{done.stdout}")
    assert done.returncode == 0, f"$ {command}\n{done.stdout}"
    return done.stdout


@pytest.mark.full
def test_r168_r169_an_author_a_curator_and_an_admin_follow_the_tutorial(place):
    """Each command succeeds, in order."""
    fuseml, folder, port = place
    outputs = {command: run(command, fuseml, folder, port) for command in commands("tutorial/publish-your-bundle.md")}

    assert "Greets the wrong people." in outputs["fuseml extension info greeting"]
    history = outputs["fuseml catalog get -C shop greeting"]
    for what in ("accepted 0.1.0 stable (Small and useful.)", "promoted 0.2.0 stable", "yanked 0.2.0"):
        assert what in history
    assert fuseml.json("extension", "info", "greeting")["version"] == "0.1.0"


@pytest.mark.full
def test_the_page_for_curators_works(place):
    """In a folder with a catalog, keys and the packages that the page speaks of."""
    fuseml, folder, port = place
    before = ["key generate ana", "key generate curator", "key generate lab",
              "catalog init shop --reference oci://localhost:5000/acme/catalog --namespace tools"]
    for name in ("base", "adder"):
        before += [f"bundle new {name} -d {name}", f"bundle push {name} oci://localhost:5000/ana/{name}",
                   f"catalog add -C shop oci://localhost:5000/ana/{name}:1.0.0 --channel stable"]
    before.append("catalog publish -C shop --key curator")
    for command in before:
        run(f"fuseml {command}", fuseml, folder, port)
        if command.startswith("bundle new"):
            source = folder / command.split()[-1] / "extension.toml"
            source.write_text(source.read_text().replace('"0.1.0"', '"1.0.0"'))
    for key in ("ana", "curator"):
        (folder / f"{key}.pub").write_bytes((fuseml.home / f"fz/keys/{key}.pub").read_bytes())
    outputs = {command: run(command, fuseml, folder, port) for command in commands("how-to/curate-a-catalog.md")}
    assert any("2 bundles copied" in output for output in outputs.values())
