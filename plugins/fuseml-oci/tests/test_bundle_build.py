"""Building bundles: validation and deterministic results."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fuseml_oci import media
from fuseml_oci.bundles import build, inspect, open_layout, write
from fuseml_oci.bundles.build import development_version
from fuseml_oci.bundles.wheels import make_wheel, normalise
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput

MANIFEST = """
name = "greeter"
version = "0.1.0"
summary = "Says hello."
licence = "Apache-2.0"
icon = "icon.svg"
{more}
"""
TRAINER = """
name: trainer
kind: trainer
command: ["{python}", "{runnable}/files/train.py", "--data={input.data}", "{output.model}"]
inputs: [{name: data, kind: dataset}]
outputs: [{name: model, kind: model}]
parameters: [{name: alpha, type: float, default: 0.5}]
"""
TEMPLATE = """
name: training
inputs:
  rows: {kind: dataset}
parameters:
  alpha: {type: float, default: 0.1}
steps:
  train:
    runnable: trainer
    inputs: {data: inputs.rows}
    parameters: {alpha: "{parameters.alpha}"}
outputs:
  model: {from: train.model}
"""
PROJECT = """
[build-system]
requires = ["hatchling>=1.30"]
build-backend = "hatchling.build"
[project]
name = "greeter-plugin"
version = "1.0"
requires-python = ">=3.11"
"""


@pytest.fixture
def source(tmp_path):
    """A data-only bundle."""
    return write_source(tmp_path / "source")


def write_source(folder: Path, more: str = "") -> Path:
    for name, text in {"extension.toml": MANIFEST.format(more=more), "runnables/trainer.yaml": TRAINER,
                       "templates/training.yaml": TEMPLATE, "files/train.py": "print('hello')\n",
                       "README.md": "# Greeter\n", "icon.svg": "<svg/>"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_r170_a_bundle_carries_runnables_templates_and_everything_about_itself(source, tmp_path):
    built = build(source)
    manifest = json.loads(built.manifest)
    assert manifest["artifactType"] == "application/vnd.fuseml.extension.v1+json"
    assert [layer["annotations"][media.TITLE] for layer in manifest["layers"]] == [
        "runnables.tar", "templates.tar", "files.tar", "README.md", "icon.svg"]
    config = json.loads(built.blobs[manifest["config"]["digest"]])
    assert config["manifest"]["runnables"] == [{"name": "trainer", "file": "runnables/trainer.yaml"}]
    assert config["runnables"][0]["inputs"] == [{"name": "data", "kind": "dataset"}]
    assert config["templates"][0]["steps"]["train"]["inputs"] == {"data": "inputs.rows"}
    assert [layer["digest"] for layer in config["layers"]] == [layer["digest"] for layer in manifest["layers"]]
    for digest, data in built.blobs.items():
        assert digest_bytes(data) == digest


@pytest.mark.parametrize("name", ["greeter.oci.tar", "layout"])
def test_a_bundle_written_as_file_or_folder_reads_back_unchanged(source, tmp_path, name):
    built = build(source)
    path = write(built, tmp_path / name)
    layout = open_layout(path)
    assert (layout.digest, layout.manifest, layout.descriptor) == (built.digest, built.manifest, built.descriptor)
    assert inspect(path) == inspect(source) == built.descriptor
    write(built, path)
    assert open_layout(path).digest == built.digest


def test_skopeo_reads_the_layout(source, tmp_path):
    if shutil.which("skopeo") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")
    path = write(build(source), tmp_path / "greeter.oci.tar")
    done = subprocess.run(["skopeo", "inspect", "--raw", f"oci-archive:{path}"], capture_output=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == build(source).manifest


BUILD = ("import sys; from pathlib import Path; from fuseml_oci.bundles import build, write;"
         "b = build(Path(sys.argv[1])); write(b, Path(sys.argv[2])); print(b.digest)")


def test_r170_the_same_source_gives_the_same_digest_whoever_builds_it(tmp_path):
    """Under another umask, locale, time zone, hash seed, folder, creation order and times: the same bytes."""
    results = []
    variants = [(0o022, {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0"}, False),
                (0o077, {"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "4242"}, True)]
    for number, (mask, env, odd) in enumerate(variants):
        root = tmp_path / f"place{number}"
        old = os.umask(mask)
        try:
            source = write_source(root / "bundle", '[environment]\nwheels = ["../plugin"]\n')
            files = {"pyproject.toml": PROJECT, "src/greeter_plugin/__init__.py": "", "src/greeter_plugin/b.py": "B = 1\n",
                     "src/greeter_plugin/a.py": "A = 1\n"}
            for name in sorted(files, reverse=odd):
                (root / "plugin" / name).parent.mkdir(parents=True, exist_ok=True)
                (root / "plugin" / name).write_text(files[name])
            if odd:  # left-overs of other tools must not leak in
                (root / "plugin/build/lib").mkdir(parents=True)
                (root / "plugin/build/lib/stale.py").write_text("")
                (source / "files/__pycache__").mkdir()
                (source / "files/__pycache__/train.pyc").write_bytes(b"x")
                os.utime(source / "files/train.py", (1, 1))
        finally:
            os.umask(old)
        done = subprocess.run([sys.executable, "-c", BUILD, str(source), str(root / "out.oci.tar")], umask=mask,
                              env={**os.environ, **env}, capture_output=True, text=True, timeout=120,
                              check=False)
        assert done.returncode == 0, done.stderr
        results.append((done.stdout, (root / "out.oci.tar").read_bytes()))
    assert results[0] == results[1]


def test_any_change_gives_another_digest_and_another_development_version(source):
    first = build(source, dev=True)
    assert re.fullmatch(r"0\.1\.0-dev\.[0-9a-f]{12}", first.descriptor.version)
    assert build(source, dev=True).digest == first.digest
    assert first.descriptor.version == f"0.1.0-dev.{build(source).digest[7:19]}"
    (source / "files/train.py").chmod(0o755)
    assert build(source, dev=True).descriptor.version != first.descriptor.version


def test_a_development_version_is_a_semantic_version_even_for_unlucky_digests():
    assert development_version("1.0.0", "sha256:012345678901" + "a" * 52) == "1.0.0-dev.12345678901a"
    assert development_version("1.0.0-rc.1", "sha256:" + "ab" * 32) == "1.0.0-rc.1.dev.abababababab"


def test_wheels_lose_what_only_the_building_machine_decides(tmp_path):
    (tmp_path / "src/greeter_plugin").mkdir(parents=True)
    (tmp_path / "src/greeter_plugin/__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    wheel = make_wheel(tmp_path)
    again = normalise(wheel.filename, wheel.data)
    assert again.data == wheel.data
    assert wheel.distribution == "greeter-plugin"
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        assert {(i.date_time, i.compress_type, i.external_attr >> 16) for i in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED, 0o100644)}
        assert archive.namelist()[-1].endswith("RECORD")
        assert b"hatchling" not in archive.read("greeter_plugin-1.0.dist-info/WHEEL")


MISTAKES = {
    "extension.toml is not valid TOML": ("extension.toml", lambda t: t + "\nx = "),
    "extension.toml: colour": ("extension.toml", lambda t: 'colour = "red"\n' + t),
    "extension.toml: version: .*semantic version": ("extension.toml", lambda t: t.replace("0.1.0", "v1")),
    "extension.toml: requires_fuseml: .*'x1'": ("extension.toml", lambda t: 'requires_fuseml = ">=0.1,x1"\n' + t),
    "extension.toml: dependencies: .*'greeter'": ("extension.toml", lambda t: t + '[[dependencies]]\nname = "greeter"'),
    "extension.toml: icon: .*svg": ("extension.toml", lambda t: t.replace("icon.svg", "icon.exe")),
    "icon: '../secret.svg' leaves": ("extension.toml", lambda t: t.replace("icon.svg", "../secret.svg")),
    "environment.python: .*'three'": ("extension.toml", lambda t: t + '[environment]\npython = "three"'),
    "config_schema: type": ("extension.toml", lambda t: t + '[config_schema]\ntype = "nonsense"'),
    "components: an extension with|needs an": ("extension.toml", lambda t: t + '[[components]]\nfamily = "builder"\n'
                                               'name = "g"\nplugin = "g:p"'),
    "no file 'runnables/gone.yaml'": ("extension.toml", lambda t: t + '[[runnables]]\nname = "gone"\n'
                                      'file = "runnables/gone.yaml"'),
    "'trainer' is called 'coach'": ("extension.toml", lambda t: t + '[[runnables]]\nname = "coach"\n'
                                    'file = "runnables/trainer.yaml"'),
    "runnables/trainer.yaml: comand": ("runnables/trainer.yaml", lambda t: t + "comand: [x]\n"),
    "runnables/trainer.yaml is not valid YAML: line 3": ("runnables/trainer.yaml", lambda t: "\n\n]"),
    "'kind' is written twice": ("runnables/trainer.yaml", lambda t: t + "kind: custom\n"),
    "no input 'rows'": ("runnables/trainer.yaml", lambda t: t.replace("{input.data}", "{input.rows}")),
    "environment.lock: the bundle has no file": ("runnables/trainer.yaml", lambda t: t + "environment: {lock: x.lock}"),
    "environments.second.lock: the bundle has no file": (
        "runnables/trainer.yaml", lambda t: t + "environments: {second: {lock: x.lock}}"),
    "environments.second.from_input: there is no input 'none'": (
        "runnables/trainer.yaml", lambda t: t + "environments: {second: {from_input: none}}"),
    "there is no environment 'second'": (
        "runnables/trainer.yaml", lambda t: t + 'env: {PYTHON: "{python.second}"}'),
    "environments: 'Second' is not a name": ("runnables/trainer.yaml", lambda t: t + "environments: {Second: {}}"),
    "steps.train.runnable: the bundle has no runnable 'coach'": (
        "templates/training.yaml", lambda t: t.replace("runnable: trainer", "runnable: coach")),
    "'other', which is not among the dependencies": (
        "templates/training.yaml", lambda t: t.replace("runnable: trainer", "runnable: other/trainer")),
    "steps.train.inputs.data: 'inputs.cols' is neither": (
        "templates/training.yaml", lambda t: t.replace("inputs.rows", "inputs.cols")),
    "takes a dataset": ("templates/training.yaml", lambda t: t.replace("kind: dataset", "kind: model")),
    "no parameter 'beta'": ("templates/training.yaml", lambda t: t.replace("parameters: {alpha:", "parameters: {beta:")),
    "the template has no parameter 'gamma'": (
        "templates/training.yaml", lambda t: t.replace("{parameters.alpha}", "{parameters.gamma}")),
    "outputs.model.from: the step 'train' has no output": (
        "templates/training.yaml", lambda t: t.replace("train.model", "train.metrics")),
    "wait for each other": ("templates/training.yaml", lambda t: t.replace("runnable: trainer",
                                                                          "runnable: trainer\n    needs: [train]")),
}


@pytest.mark.parametrize("expected", MISTAKES)
def test_r128_a_mistake_is_named_with_file_field_and_reason(source, expected):
    file, change = MISTAKES[expected]
    (source / file).write_text(change((source / file).read_text()))
    with pytest.raises(InvalidInput, match=expected):
        build(source)


def test_files_outside_the_folder_never_enter_the_bundle(source, tmp_path):
    (tmp_path / "secret").write_text("password")
    (source / "files/link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="leaves the bundle's folder"):
        build(source)
    (source / "files/link").unlink()
    (source / "files/dir").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="link"):
        build(source)


@pytest.mark.parametrize("line", [
    "--index-url https://example.org/simple", "x @ https://example.org/x.whl", "x>=1", "pluggy==1.7.0",
])
def test_a_lock_names_no_index_no_url_and_only_hashed_pins(source, line):
    (source / "extension.toml").write_text(MANIFEST.format(more="[environment]\n"))
    (source / "requirements.lock").write_text(f"{line}\n")
    with pytest.raises(InvalidInput, match="requirements.lock: line 1"):
        build(source)
    (source / "requirements.lock").write_text("# made by uv\npluggy==1.7.0 ; python_version >= '3.11' \\\n"
                                              f"    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n")
    assert "requirements.lock" in [file.path for file in build(source).descriptor.files]


def test_a_damaged_layout_is_refused(source, tmp_path):
    built = build(source)
    path = write(built, tmp_path / "layout")
    blob = path / "blobs/sha256" / built.descriptor.layers[0].digest[7:]
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    layout = open_layout(path)
    entry = json.loads(built.manifest)["layers"][0]
    from fuseml_oci.descriptor import read_descriptor

    with pytest.raises(InvalidInput, match="has the digest"):
        layout.blob(read_descriptor(entry, "layer"))
    with tarfile.open(tmp_path / "empty.oci.tar", "w"):
        pass
    with pytest.raises(InvalidInput, match="not an OCI image layout"):
        open_layout(tmp_path / "empty.oci.tar")


BUILT_RUNNABLES = """
name: build-and-train
inputs:
  code: {kind: codeset}
parameters:
  predictor: {type: string, default_from: inputs.code.metadata.flavor}
steps:
  build:
    runnable: maker
    inputs: {code: inputs.code}
  train:
    from: build.trainer
    interface:
      kind: trainer
      inputs: [{name: code, kind: codeset}]
      outputs: [{name: model, kind: model}]
    inputs: {code: inputs.code}
    parameters: {anything: "{parameters.predictor}"}
    open_parameters: true
outputs:
  model: {from: train.model, name: m}
"""
MAKER = ('{"name": "maker", "kind": "builder", "command": ["{python}"], "inputs": [{"name": "code", "kind": "codeset"}],'
         ' "outputs": [{"name": "trainer", "kind": "runnable"}, {"name": "notes", "kind": "value"}]}')


def test_r172_a_step_may_run_what_an_earlier_step_builds(source, tmp_path):
    (source / "runnables/maker.json").write_text(MAKER)
    (source / "templates/build.yaml").write_text(BUILT_RUNNABLES)
    descriptor = open_layout(write(build(source), tmp_path / "x.oci.tar")).descriptor
    template = next(t for t in descriptor.templates if t.name == "build-and-train")
    assert template.steps["train"].from_ == "build.trainer"
    assert template.steps["train"].interface.outputs[0].name == "model"
    assert list(template.steps) == ["build", "train"], "the order of a file is kept"
    (source / "templates/build.yaml").write_text(BUILT_RUNNABLES.replace("build.trainer", "build.notes"))
    with pytest.raises(InvalidInput, match="is a value, not a runnable"):
        build(source)
    (source / "templates/build.yaml").write_text(BUILT_RUNNABLES.replace("inputs.code.metadata", "inputs.model.x"))
    with pytest.raises(InvalidInput, match="default_from"):
        build(source)
