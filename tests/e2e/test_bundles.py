"""Bundles from a new folder to a running system and back, by the command line; the page for authors is what is run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/publish-a-bundle.md").read_text(encoding="utf-8")


def _commands() -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]


@pytest.fixture(scope="module")
def published(numbers, tmp_path_factory) -> Path:
    """What the page does, in an empty folder; the extension is there at the end."""
    folder = tmp_path_factory.mktemp("author")
    for command in _commands():
        text, _, target = command.partition(" > ")
        result = numbers(*shlex.split(text)[1:], cwd=folder)
        if target:
            (folder / target).write_text(result.out)
    return folder


def test_r38_r168_r170_the_page_for_authors_works(numbers, published, tmp_path):
    """A new bundle is checked, built, pushed, installed, compared and fetched; then its template runs."""
    (installed,) = [e for e in numbers.json("extension", "list") if e["name"] == "word-count"]
    built = numbers.json("bundle", "inspect", str(published / "word-count-0.1.0.oci.tar"))
    assert installed["digest"] == built["digest"]
    assert built["referrers"] == ["https://cyclonedx.org/bom", "https://slsa.dev/provenance/v1"]
    assert json.loads((published / "word-count/extension.schema.json").read_text())["title"] == "ExtensionManifest"
    again = numbers.json("bundle", "inspect", str(published / "fetched"))
    assert again["digest"] == built["digest"], "an unpacked bundle builds to the same digest"
    (exception,) = re.findall(r"^```toml\n(\[\[lint\]\].*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    manifest = published / "word-count/extension.toml"
    manifest.write_text(f"{manifest.read_text()}\n{exception}")
    numbers("bundle", "lint", str(published / "word-count"), "--strict")

    numbers("project", "create", "words")
    numbers("pipeline", "add", "word-count", "--input", "text=code://*", "--project", "words")
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.txt").write_text("one two two\n")
    numbers("codeset", "push", str(tmp_path / "code"), "--name", "code", "--wait", "--project", "words")
    run = numbers.json("run", "get", "word-count/1", "--project", "words")
    assert run["state"] == "succeeded"
    assert [m["value"] for m in run["steps"][0]["metrics"]] == [3.0]


def test_r169_signatures_travel_with_a_copy(numbers, published):
    """What the server signed can be verified in the file that was fetched from it."""
    (key,) = [k for k in numbers.json("key", "list") if k["name"] == "registry"]
    for name in ("fetched.oci.tar", "layout.oci.tar"):
        found = numbers("bundle", "verify", str(published / name), "--key", "registry", "-o", "json").json
        assert (found["verified"], {s["key"] for s in found["signatures"]}) == (True, {key["fingerprint"]})
    host = numbers.base_url.removeprefix("http://")
    copied = numbers.json("bundle", "copy", str(published / "layout.oci.tar"), f"oci://{host}/copies/")
    assert (copied["tag"], copied["referrers"] > 2, copied["sent"] > 5) == ("0.1.0", True, True)
    there = f"oci://{host}/copies/word-count:0.1.0"
    assert numbers("bundle", "verify", there, "--key", "registry", "-o", "json").json["verified"]
    bare = numbers.json("bundle", "copy", there, f"oci://{host}/bare/", "--no-referrers")
    assert (bare["referrers"], bare["digest"]) == (0, copied["digest"])
    numbers("bundle", "verify", f"oci://{host}/bare/word-count:0.1.0", "--key", "registry", code=5)
    refused = numbers("bundle", "pull", there, "--to", str(published / "word-count-0.1.0.oci.tar"))
    assert refused.out.startswith("Pulled"), "the same bundle may be fetched again"
    wrong = numbers("bundle", "copy", there, f"oci://{host}/copies/other-name", code=None)
    assert (wrong.code != 0, "does not end with 'word-count'" in wrong.err) == (True, True)


@pytest.mark.full
def test_r168_a_new_store_is_installed_and_runs(numbers, tmp_path):
    """The bundle of a new plugin: its own tests pass, and the server has it at once."""
    numbers("plugin", "new", "store", "notes", cwd=tmp_path)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_notes.py"],
                          timeout=120, cwd=tmp_path / "notes", capture_output=True, text=True, check=False,
                          env={**numbers.environment, "PYTHONPATH": str(tmp_path / "notes/src")})
    assert done.returncode == 0, done.stdout + done.stderr
    pushed = numbers("bundle", "push", "notes", "--dev", "--attest", "-o", "json", cwd=tmp_path).json
    assert len(pushed["attached"]) == 2
    report = numbers("bundle", "lint", f"notes:{pushed['version']}", "-o", "json").json
    assert (report["errors"], {f["rule"] for f in report["findings"]}) == (0, {"B102", "B111"})
    numbers("extension", "install", f"notes:{pushed['version']}")
    try:
        assert "notes/notes" in [component["name"] for component in numbers.json("agent", "list")]
    finally:
        numbers("extension", "uninstall", "notes", code=None)


def test_r168_differences_are_shown_between_folders_files_and_references(numbers, published, tmp_path):
    changed = shutil.copytree(published / "fetched", tmp_path / "word-count")
    text = (changed / "extension.toml").read_text().replace('version = "0.1.0"', 'version = "0.2.0"')
    (changed / "extension.toml").write_text(text)
    assert tomllib.loads(text)["version"] == "0.2.0"
    shown = numbers("bundle", "diff", "word-count:0.1.0", str(changed), "--exit-code", code=1)
    assert re.search(r"manifest +changed +version +0\.1\.0 +0\.2\.0", shown.out)
    document = numbers.json("bundle", "diff", str(published / "fetched.oci.tar"), str(changed))
    assert [(c["part"], c["name"]) for c in document["changes"]] == [("manifest", "version")]
    assert "Nothing differs" in numbers("bundle", "diff", "word-count:0.1.0", str(published / "fetched")).out


def test_r168_mistakes_are_told_with_rule_and_fix(numbers, tmp_path):
    numbers("bundle", "new", "broken", cwd=tmp_path)
    (tmp_path / "broken/files/id_rsa").write_text("-----BEGIN " + "RSA PRIVATE KEY-----\n")
    result = numbers("bundle", "lint", "broken", cwd=tmp_path, code=1)
    assert "B401" in result.out
    assert "B403" in result.out
    refused = numbers("bundle", "build", "broken", cwd=tmp_path, code=2)
    assert "files/id_rsa" in refused.err
    assert not list(tmp_path.glob("*.oci.tar"))
    assert "is there already" in numbers("bundle", "new", "broken", cwd=tmp_path, code=2).err
    assert "B" not in numbers("bundle", "lint", "nowhere", cwd=tmp_path, code=None).out
    for command in (("lint", "nowhere"), ("inspect", "nowhere"), ("pull", "nowhere")):
        assert "there is no bundle nowhere" in numbers("bundle", *command, cwd=tmp_path, code=3).err
    assert "no file or folder no.tar" in numbers("bundle", "inspect", "no.tar", cwd=tmp_path, code=3).err
    manifest = tmp_path / "broken/extension.toml"
    manifest.write_text('sumary = "misspelt"\n' + manifest.read_text())
    assert "sumary: there is no such field" in numbers("bundle", "lint", "broken", cwd=tmp_path, code=1).out
    manifest.write_text(manifest.read_text().replace('sumary = "misspelt"\n', "").replace('"0.1.0"', '"one"'))
    assert "version: 'one' is not a semantic version" in numbers("bundle", "build", "broken", cwd=tmp_path, code=2).err
    manifest.write_text(manifest.read_text().replace('"one"', '"0.1.0"'))
    usage = numbers("bundle", "build", "broken", "--python", "3.12", cwd=tmp_path, code=2)
    assert "--with-wheels" in usage.err
