"""Project files that were written to do harm are refused at once, with a message."""

from __future__ import annotations

import os

import pytest

from fuseml_mlflow import builder, sources
from fuseml_mlflow.environment import read
from fuseml_mlflow.plugin import plugin
from fuseml_mlflow.project import Project
from fuseml_mlflow.trainer import outputs
from fuseml_mlflow.trainer.errors import TrainingError
from fuseml_mlflow.trainer.runs import LoggedModel
from fuseml_mlflow.trainer.settings import EntryPoint, Settings
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import FileEntry, FileListing

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)) + (
    "entry_points:\n  main: {command: 'true', parameters: {p: {default: *a8}}}\n")


@pytest.mark.parametrize(("text", "message"), [
    (BOMB, "its aliases stand for more than"), ("a: &a [*a]\n", "its aliases stand for more than"),
    ("a: " + "[" * 20000, "too deep"), ("a: 2026-99-99\n", "a value that YAML does not have"),
    ("x\x06", "not valid YAML"), ("# " + "x" * sources.MAX_BYTES, "at most"), ("? [a]\n: b\n", "not valid YAML"),
])
def test_r83_broken_and_hostile_project_files_are_named(tmp_path, text, message):
    (tmp_path / "MLproject").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        builder.load(tmp_path)
    assert message in caught.value.message
    assert caught.value.message.startswith("MLproject: ")
    assert "\n" not in caught.value.message


def test_a_deep_project_file_is_an_mlflow_project_that_is_broken():
    listing = FileListing(files=[FileEntry(path="MLproject", size=9, mode="100644", digest="")],
                          contents={"MLproject": "a: " + "[" * 20000})
    found = plugin.builder_detect(listing)
    assert found.matches
    assert "too deep" in found.why


@pytest.mark.parametrize("file", ["MLproject", "python_env.yaml", "conda.yaml", "requirements.txt"])
def test_links_out_of_the_codeset_are_not_followed(tmp_path, file):
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0\n")
    root = tmp_path / "code"
    root.mkdir()
    os.symlink(secret, root / file)
    with pytest.raises(InvalidInput) as caught:
        builder.load(root) if file == "MLproject" else read(Project(file="MLproject"), root)
    assert "codeset" in caught.value.message
    assert "root:x" not in caught.value.message


def test_binary_environment_files_are_no_crash(tmp_path):
    (tmp_path / "python_env.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InvalidInput, match=r"python_env\.yaml: "):
        read(Project(file="MLproject"), tmp_path)


def _handed_over(tmp_path, spoil):
    model = tmp_path / "checkout" / "model"
    model.mkdir(parents=True)
    (model / "MLmodel").write_text("flavors: {python_function: {}}\n")
    spoil(model)
    contents = tmp_path / "contents"
    contents.mkdir()
    (contents / "serving.lock").write_text("")
    known = Settings(contents=contents, code=model.parent, scratch=tmp_path, output=tmp_path / "out", output_info=None,
                     metrics=None, entry_point=EntryPoint("main", "true", []), codeset={"name": "app"}, project="p",
                     workload="", data=None, tracking_uri="", values={})
    outputs.hand_over([LoggedModel(name="m", directory=model, model_id="", run_id="", created=0, metrics={})], known)
    return known.output / "m"


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda model: os.mkfifo(model / "odd"), "odd is a pipe, socket or device"),
    (lambda model: os.symlink("/etc", model / "odd"), "odd is a link to a directory that contains it or lies outside"),
    (lambda model: os.symlink(".", model / "odd"), "odd is a link to a directory that contains it or lies outside"),
    (lambda model: os.symlink("odd", model / "odd"), "odd is a link to nothing"),
])
def test_r104_a_model_with_something_that_is_no_file_is_refused_by_name(tmp_path, spoil, message):
    with pytest.raises(TrainingError, match=message):
        _handed_over(tmp_path, spoil)


def test_r104_links_to_files_become_files(tmp_path):
    (tmp_path / "cache").write_text("weights")
    found = _handed_over(tmp_path, lambda model: os.symlink(tmp_path / "cache", model / "weights"))
    assert not (found / "weights").is_symlink()
    assert (found / "weights").read_text() == "weights"
