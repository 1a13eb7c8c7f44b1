"""What cannot work is refused with one clear message, an exit code, and nothing half-made."""

from __future__ import annotations

from pathlib import Path

import pytest


def _refused(result, *words: str) -> None:
    """One message on stderr that names what is wrong; no traceback."""
    assert result.code not in (0, 70)
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def test_an_unknown_template(project):
    """The name that was typed is in the message."""
    _refused(project("pipeline", "add", "no-such", "--input", "code=code://*", code=None), "no-such")
    assert project.json("pipeline", "list") == []


def test_an_unbound_input(project):
    """The message names the input and how to bind it."""
    _refused(project("pipeline", "add", "mean-training", "--name", "t", code=None), "code", "--input")
    assert project.json("pipeline", "list") == []


def test_an_input_that_the_template_does_not_have(project):
    """A typing mistake is not ignored."""
    refused = project("pipeline", "add", "mean-training", "--name", "t", "--input", "cod=code://*", code=None)
    _refused(refused, "cod")


def test_r44_r47_an_input_of_another_kind(project):
    """A model where code is wanted is refused when the pipeline is added, not when it runs."""
    refused = project("pipeline", "add", "mean-training", "--name", "t", "--input", "code=model://*", code=None)
    _refused(refused, "code", "model")
    assert project.json("pipeline", "list") == []


@pytest.mark.parametrize("value", ["many", "1.5", "-5000"])
def test_r51_a_parameter_of_the_wrong_type(project, value):
    """Text, a fraction and a number out of range where a whole number is wanted."""
    refused = project("pipeline", "add", "mean-training", "--name", "t", "--input", "code=code://*",
                      "--param", f"smallest={value}", code=None)
    _refused(refused, "smallest", value)
    assert project.json("pipeline", "list") == []


@pytest.mark.parametrize("name", ["My Project", "a/b", "../x", "deadbeef0", "", "-x", "x" * 100, "fuseml"])
def test_an_invalid_name_of_a_project(numbers, name):
    """What would break addresses, or belongs to extensions, is no name."""
    _refused(numbers("project", "create", "--", name, code=None))
    assert name not in [p["name"] for p in numbers.json("project", "list")]


def test_a_name_that_is_taken(project):
    """Creating twice is a conflict, with its own exit code."""
    _refused(project.fuseml("project", "create", project.name, code=4), project.name)
    project.add_pipelines(serve=False)
    again = project("pipeline", "add", "mean-training", "--name", "training-pipeline", "--input", "code=code://*",
                    code=4)
    _refused(again, "training-pipeline")


def test_things_that_do_not_exist(project):
    """Exit code 3, and the name in the message."""
    for arguments in (["run", "get", "training-pipeline/9"], ["service", "get", "nothing"],
                      ["codeset", "get", "nothing"], ["pipeline", "get", "nothing"],
                      ["artifact", "get", f"model://{project.name}/nothing"]):
        _refused(project(*arguments, code=3))


def test_a_folder_that_is_not_there_or_empty(project, tmp_path):
    """Nothing is registered."""
    _refused(project("codeset", "push", str(tmp_path / "missing"), "--name", "x", code=None), "missing")
    _refused(project("codeset", "push", str(project.folder), "--name", "x", code=None))
    assert project.json("artifact", "list", "--kind", "codeset") == []


def test_a_bundle_that_is_broken(numbers, tmp_path):
    """The message names the file and the field."""
    (tmp_path / "extension.toml").write_text('name = "broken"\nversion = "one"\nsummary = "x"\n')
    _refused(numbers("bundle", "push", str(tmp_path), code=None), "extension.toml", "version", "one")


@pytest.mark.parametrize("damage", ["changed", "cut short"])
def test_a_bundle_with_a_wrong_digest(fuseml, damage):
    """What the registry gives is not what the digest says: refused, and nothing is kept."""
    fuseml("bundle", "push", "tests/e2e/bundles/numbers")
    state = Path(fuseml.environment["FUSEML_HOME"])
    blobs = [p for p in (state / "registry" / "blobs").rglob("*") if p.is_file()]
    largest = max(blobs, key=lambda p: p.stat().st_size)  # a layer; the bundle's manifest and config stay sound
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(content if damage == "changed" else content[:-10])

    _refused(fuseml("extension", "install", "numbers", code=None), "numbers 0.1.0", largest.name)

    assert fuseml.json("extension", "list") == []
    kept = [p for folder in ("store", "content") for p in (state / "extensions" / folder).rglob(largest.name)]
    assert kept == []


def test_an_extension_that_does_not_exist(numbers):
    """Nothing is installed."""
    before = numbers.json("extension", "list")
    _refused(numbers("extension", "install", "nothing", code=None), "nothing")
    assert numbers.json("extension", "list") == before


def test_a_script_that_fails_and_the_next_push(project):
    """The run fails with step, exit code and last log lines; nothing is registered; the next push works."""
    project.add_pipelines()
    failed = project.push(numbers="1 2 3\n", fail="7", code=1)

    assert "step collect failed with exit code 7" in failed.err
    assert "about to fail" in failed.err
    run = project.run("training-pipeline/1")
    assert run["state"] == "failed"
    assert run["steps"]["collect"]["state"] == "failed"
    assert run["steps"]["collect"]["exit_code"] == 7
    assert run["steps"]["fit"]["state"] == "skipped"
    assert project.json("model", "list") == []

    (project.folder / "fail").unlink()
    assert "serving at" in project.push().out
