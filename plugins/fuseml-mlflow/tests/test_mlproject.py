"""MLproject files: what is read, what is refused, and with which words."""

from __future__ import annotations

import pytest

from fuseml_mlflow.interface import parameter_spec
from fuseml_mlflow.plugin import plugin
from fuseml_mlflow.project import EntryPoint, Parameter, find, parse
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import FileEntry, FileListing

MINIMAL = "entry_points:\n  main:\n    command: python train.py\n"


def listing(**texts):
    files = [FileEntry(path=path, size=len(text), digest="git:" + "0" * 40) for path, text in texts.items()]
    return FileListing(files=files, contents=texts)


@pytest.mark.parametrize("name", ["MLproject", "MLProject", "mlproject", "MLPROJECT"])
def test_r79_r80_a_project_is_recognised_whatever_the_case_of_its_file(name):
    found = plugin.builder_detect(listing(**{"train.py": "", name: MINIMAL}))
    assert (found.matches, found.type, found.why) == (True, "mlflow-project", f"{name} in the root")
    assert found.metadata["mlflow"]["entry_points"] == ["main"]


def test_r79_a_codeset_without_the_file_does_not_match_and_says_why():
    found = plugin.builder_detect(listing(**{"train.py": "", "sub/MLproject": MINIMAL}))
    assert (found.matches, found.why) == (False, "no MLproject file in the root")


def test_r79_a_broken_file_matches_so_that_the_build_step_can_say_what_is_wrong():
    found = plugin.builder_detect(listing(MLproject="entry_points:\n  main: [\n"))
    assert found.matches
    assert "line 3" in found.why
    assert "line 3" in found.metadata["mlflow"]["error"]


def test_the_builder_describes_itself():
    described = plugin.builder_describe()
    assert (described.types, described.makes) == (["mlflow-project"], ["trainer", "predictor"])


def test_several_files_that_differ_in_case_give_the_same_one_every_time():
    assert find(["mlproject", "MLproject", "MLPROJECT"]) == "MLPROJECT"


def test_r87_parameters_in_long_and_short_form():
    project = parse("""
name: wine
entry_points:
  main:
    parameters:
      data: path
      alpha: {type: float, default: 0.5}
      rounds: {type: int, default: 7}
      title: {default: x y}
      source: {type: uri}
    command: "python train.py {data} {alpha} {rounds} {title} {source}"
""", "MLproject")
    entry = project.entry_point("main")
    assert entry.parameters == (
        Parameter("data", "path"), Parameter("alpha", "float", 0.5), Parameter("rounds", "int", 7),
        Parameter("title", "string", "x y"), Parameter("source", "uri"))


@pytest.mark.parametrize(("parameter", "kind", "default", "required"), [
    (Parameter("a", "float", 0.5), "float", 0.5, False),
    (Parameter("a", "float", "1e-4"), "float", 1e-4, False),
    (Parameter("a", "float", "auto"), "string", "auto", False),
    (Parameter("a", "int", 7), "integer", 7, False),
    (Parameter("a", "int", 7.5), "string", "7.5", False),
    (Parameter("a", "string", True), "string", "True", False),
    (Parameter("a", "float", True), "string", "True", False),
    (Parameter("a", "string"), "string", None, True),
    (Parameter("a", "float"), "float", None, True),
    (Parameter("a", "path"), "path", None, False),
    (Parameter("a", "uri", "https://x/y"), "uri", "https://x/y", False),
    (Parameter("a", "anything", 3), "string", "3", False),
])
def test_r87_r101_parameters_become_those_of_the_trainer(parameter, kind, default, required):
    spec = parameter_spec(parameter)
    assert (spec.type, spec.default, spec.required, spec.deliver) == (kind, default, required, "config")


@pytest.mark.parametrize(("name", "command"), [
    ("train.py", "python train.py"), ("my script.py", "python 'my script.py'"), ("run.sh", "bash run.sh")])
def test_a_script_is_an_entry_point_as_for_mlflow(name, command):
    assert parse(MINIMAL, "MLproject").entry_point(name) == EntryPoint(name, command)


@pytest.mark.parametrize(("text", "message"), [
    ("entry_points: [main", "MLproject: not valid YAML in line 1, column 20"),
    ("- a\n- b\n", "MLproject: the file must be a mapping"),
    ("entry_points: 7", "MLproject: entry_points must be a mapping"),
    ("entry_points:\n  main: {}\n", "MLproject: entry_points.main has no command"),
    ("entry_points:\n  main:\n    command: 'a {b}'\n", "uses {b}, which is not among its parameters"),
    ("entry_points:\n  main:\n    command: 'a {b'\n", "entry_points.main.command"),
    ("entry_points:\n  main:\n    command: a\n    parameters: [x]\n", "parameters must be a mapping"),
    ("entry_points:\n  main:\n    command: a\n    parameters: {x: 7}\n", "parameters.x must be a type or a mapping"),
    ("python_env: a\nconda_env: b\n" + MINIMAL, "several environments: python_env, conda_env"),
    ("docker_env: {image: x}\n" + MINIMAL, "docker_env is not supported"),
    ("databricks_spark_job: {python_file: a.py}\n", "databricks_spark_job is not supported"),
    ("python_env: 7\n" + MINIMAL, "python_env must be the path of a file"),
])
def test_what_is_wrong_is_said_with_file_and_place(text, message):
    with pytest.raises(InvalidInput, match="MLproject") as caught:
        parse(text, "MLproject")
    assert message in caught.value.message


def test_an_entry_point_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InvalidInput, match=r"no entry point 'evaluate'; declared: main"):
        parse(MINIMAL, "MLproject").entry_point("evaluate")
