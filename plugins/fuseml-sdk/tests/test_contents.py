"""Identities of contents, and globs over their paths."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from fuseml_sdk.contents import identify, scan
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.globs import matches, select


def model(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    (root / "data/model.bin").write_bytes(b"\0" * 3_000_000)
    (root / "serve.sh").write_text("#!/bin/sh\n")
    (root / "serve.sh").chmod(0o755)
    return root


def test_scan_reads_every_file(tmp_path: Path) -> None:
    files = scan(model(tmp_path / "m"))
    assert [(f.path, f.size, f.executable) for f in files] == [
        ("MLmodel", 12, False), ("data/model.bin", 3_000_000, False), ("serve.sh", 10, True)]
    assert files[0].digest == "sha256:" + hashlib.sha256(b"flavors: {}\n").hexdigest()


def test_identity_depends_on_contents_only(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    os.utime(two / "MLmodel", (1, 1))
    first, second = identify("model", scan(one)), identify("model", reversed(scan(two)))
    assert first == second
    assert first.digest == "sha256:" + hashlib.sha256(first.manifest).hexdigest()
    (two / "serve.sh").chmod(0o644)
    assert identify("model", scan(two)).digest != first.digest


def test_model_manifest_is_a_model_pack_artifact(tmp_path: Path) -> None:
    found = identify("model", scan(model(tmp_path / "m")))
    manifest, config = json.loads(found.manifest), json.loads(found.config)
    assert manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert manifest["config"]["size"] == len(found.config)
    assert [layer["annotations"]["org.cncf.model.filepath"] for layer in manifest["layers"]] == [
        "MLmodel", "data/model.bin", "serve.sh"]
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.cncf.model.weight.v1.raw"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_dataset_manifest_names_its_type(tmp_path: Path) -> None:
    found = identify("dataset", scan(model(tmp_path / "d")))
    manifest = json.loads(found.manifest)
    assert manifest["artifactType"] == "application/vnd.fuseml.dataset.v1+json"
    assert found.config == b"{}"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"


def test_identity_is_frozen(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    x = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    config = f'{{"config":{{}},"descriptor":{{}},"modelfs":{{"diffIds":["{x}"],"type":"layers"}}}}'.encode()
    manifest = (
        '{"artifactType":"application/vnd.cncf.model.manifest.v1+json","config":{"digest":"sha256:'
        + hashlib.sha256(config).hexdigest() + '","mediaType":"application/vnd.cncf.model.config.v1+json","size":'
        + str(len(config)) + '},"layers":[{"annotations":{"org.cncf.model.filepath":"f"},"digest":"' + x
        + '","mediaType":"application/vnd.cncf.model.weight.v1.raw","size":1}],'
        '"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}').encode()
    found = identify("model", scan(tmp_path))
    assert (found.config, found.manifest) == (config, manifest)
    assert found.digest == "sha256:6cfe3f2edda178394317fed099697475691d319de976cd55b53417afb792797b"


def test_links_inside_count_as_files_and_others_are_refused(tmp_path: Path) -> None:
    root = model(tmp_path / "m")
    (root / "alias").symlink_to("MLmodel")
    assert "alias" in [f.path for f in scan(root)]
    (root / "escape").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInput, match="leads out"):
        scan(root)


@pytest.mark.parametrize("odd", ["dangling", "directory", "pipe", "latin"])
def test_odd_files_are_refused(tmp_path: Path, odd: str) -> None:
    root = model(tmp_path / "m")
    if odd == "dangling":
        (root / "x").symlink_to("nowhere")
    elif odd == "directory":
        (root / "x").symlink_to("data")
    elif odd == "pipe":
        os.mkfifo(root / "x")
    else:
        (root / os.fsdecode(b"\xe4")).write_text("x")
    with pytest.raises(InvalidInput):
        scan(root)


def test_nothing_is_no_artifact() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        identify("model", [])


@pytest.mark.parametrize(("path", "patterns", "expected"), [
    ("MLproject", ["MLProject"], True),
    ("sub/MLproject", ["MLProject"], False),
    ("sub/MLproject", ["**/MLProject"], True),
    ("MLproject", ["**/MLProject"], True),
    ("requirements-dev.txt", ["requirements*.txt"], True),
    ("a/b/c.py", ["a/**"], True),
    ("a/b/c.py", ["a/*"], True),
    ("ab/c.py", ["a/*"], False),
    ("a/b/c.py", ["a"], True),
    ("a/b/c.py", ["*.py"], False),
    ("x.py", [], True),
    ("x.py", ["!*.md"], True),
    ("x.md", ["!*.md"], False),
    ("x.md", ["*", "!*.md"], False),
    ("x.md", ["!*.md", "x.md"], True),
    ("data1.csv", ["data[0-9].csv"], True),
    ("dataX.csv", ["data[!0-9].csv"], True),
    ("a+b(c).txt", ["a+b(c).txt"], True),
    ("conda.yaml/x", ["conda.yml"], False),
])
def test_globs_of_change_filters(path: str, patterns: list[str], expected: bool) -> None:
    assert matches(path, patterns) is expected


def test_select_sorts() -> None:
    assert select(["b.py", "a.py", "c.md"], ["*.py"]) == ["a.py", "b.py"]
