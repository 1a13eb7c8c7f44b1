"""Environment files of projects: precedence, requirements, conda packages."""

from __future__ import annotations

import pytest

from fuseml_mlflow import locks
from fuseml_mlflow.conda import translate
from fuseml_mlflow.environment import ProjectEnvironment, python_version, read
from fuseml_mlflow.project import Project
from fuseml_sdk.errors import InvalidInput

PYTHON_ENV = 'python: "3.11"\nbuild_dependencies: [setuptools]\ndependencies: [mlflow-skinny, "-r requirements.txt"]\n'
CONDA = "dependencies:\n- python=3.10\n- pip\n- numpy=1.26\n- pip:\n  - mlflow-skinny==3.17.2\n"


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def project(**fields):
    return Project(file="MLproject", **fields)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, **{"python_env.yaml": PYTHON_ENV, "conda.yaml": CONDA, "requirements.txt": "scikit-learn>=1  # x\n"})
    return tmp_path


@pytest.mark.parametrize(("fields", "source", "python"), [
    ({}, "python_env.yaml", "3.11"),
    ({"conda_env": "conda.yaml"}, "conda.yaml", "3.10"),
    ({"python_env": "python_env.yaml"}, "python_env.yaml", "3.11"),
])
def test_r83_precedence_is_that_of_mlflow(folder, fields, source, python):
    found = read(project(**fields), folder)
    assert (found.source, found.python) == (source, python)


def test_r103_requirements_files_are_expanded(folder):
    assert read(project(), folder).requirements == ("setuptools", "mlflow-skinny", "scikit-learn>=1")


def test_r103_conda_packages_that_the_python_index_has_are_translated(folder):
    found = read(project(conda_env="conda.yaml"), folder)
    assert found.requirements == ("pip", "numpy==1.26.*", "mlflow-skinny==3.17.2")


def test_without_any_file_the_environment_is_mlflow_alone(tmp_path):
    found = read(project(), tmp_path)
    assert (found.requirements, found.python) == (("mlflow",), None)
    assert found.warnings


@pytest.mark.parametrize(("text", "expected"), [
    ("python=3.11.4", ("python", "==3.11.4.*")), ("numpy", ("numpy", "")), ("numpy=1.26.*", ("numpy", "==1.26.*")),
    ("numpy==1.26.4", ("numpy", "==1.26.4")), ("numpy>=1.2,<2", ("numpy", ">=1.2,<2")),
    ("conda-forge::scipy=1.11=py311_0", ("scipy", "==1.11.*")), ("pandas 2.2.*", ("pandas", "==2.2.*")),
    ("cudatoolkit=11.8", None),
])
def test_conda_dependencies(text, expected):
    assert translate(text, "conda.yaml") == expected


@pytest.mark.parametrize(("value", "expected"), [
    ("3.11", "3.11"), ("3.11.7", "3.11"), ("==3.10.*", "3.10"), (">=3.8", "3.8"), (None, None), ("", None)])
def test_python_versions(value, expected):
    assert python_version(value, "f") == expected


@pytest.mark.parametrize(("files", "fields", "message"), [
    ({"python_env.yaml": "python: 3.10\n"}, {}, "is a number to YAML"),
    ({"python_env.yaml": "dependencies: [\n"}, {}, "python_env.yaml: not valid YAML in line"),
    ({"python_env.yaml": "dependencies: mlflow\n"}, {}, "dependencies must be a list"),
    ({"python_env.yaml": "pyton: '3.11'\n"}, {}, "'pyton' is not a key of it"),
    ({"python_env.yaml": "dependencies: ['-r nothing.txt']\n"}, {}, "the file 'nothing.txt' does not exist"),
    ({"python_env.yaml": "dependencies: ['-r ../x.txt']\n"}, {}, "lies outside the codeset"),
    ({"python_env.yaml": "dependencies: ['-e .']\n"}, {}, "cannot be locked with hashes"),
    ({"python_env.yaml": "dependencies: ['git+https://e.org/x.git']\n"}, {}, "is a URL"),
    ({"python_env.yaml": "dependencies: ['x @ https://e.org/x.whl']\n"}, {}, "is a URL"),
    ({"python_env.yaml": "dependencies: ['a b c']\n"}, {}, "is not a requirement"),
    ({"conda.yaml": "dependencies:\n- cudatoolkit=11\n- r-base\n"}, {}, "cudatoolkit=11, r-base"),
    ({"conda.yaml": "dependencies:\n- npm: [x]\n"}, {}, "is not a dependency"),
    ({}, {"python_env": "env.yaml"}, "'env.yaml', which does not exist"),
    ({}, {"conda_env": "../env.yaml"}, "lies outside the codeset"),
])
def test_what_is_wrong_is_said_with_the_file(tmp_path, files, fields, message):
    write(tmp_path, **files)
    with pytest.raises(InvalidInput) as caught:
        read(project(**fields), tmp_path)
    assert message in caught.value.message


def test_index_options_are_left_out_with_a_warning(tmp_path):
    write(tmp_path, **{"python_env.yaml": "dependencies: ['-r r.txt']\n",
                       "r.txt": "--extra-index-url https://e.org/simple\n-c c.txt\nnumpy \\\n  >=1 --hash=sha256:00\n",
                       "c.txt": "pandas<3\n"})
    found = read(project(), tmp_path)
    assert found.requirements == ("numpy   >=1",)
    assert found.constraints == ("pandas<3",)
    assert found.warnings == ("r.txt: --extra-index-url is ignored; the package index is a setting of FuseML",)


@pytest.mark.parametrize(("text", "expected"), [
    ("scikit-learn\n", ("scikit-learn", "mlflow")), ("MLflow==2.14.3\n", ("MLflow==2.14.3",)),
    ("mlflow_skinny\npandas\n", ("mlflow_skinny", "pandas"))])
def test_r83_requirements_alone_are_the_environment(tmp_path, text, expected):
    write(tmp_path, **{"requirements.txt": text})
    found = read(project(), tmp_path)
    assert (found.source, found.requirements) == ("requirements.txt", expected)
    assert "requirements.txt is its environment" in found.warnings[0]


@pytest.mark.parametrize(("versions", "expected"), [
    ({"mlflow": "2.9.2"}, True), ({"mlflow": "2.9.2", "setuptools": "82.0.1"}, True),
    ({"mlflow-skinny": "2.15.1", "setuptools": "80.9.0"}, False), ({"mlflow": "2.16.0"}, False),
    ({"mlflow": "3.17.2"}, False), ({"numpy": "1.0"}, False)])
def test_old_mlflow_needs_a_setuptools_with_pkg_resources(versions, expected):
    assert locks.needs_pkg_resources(versions) is expected


def test_old_mlflow_is_locked_with_a_setuptools_that_it_can_import(tmp_path):
    lock, serving = locks.compile_locks(ProjectEnvironment(python="3.11", requirements=("mlflow-skinny==2.9.2",)))
    assert int(locks.pinned(lock)["setuptools"].split(".")[0]) < 81
    assert locks.pinned(serving)["setuptools"] == locks.pinned(lock)["setuptools"]
