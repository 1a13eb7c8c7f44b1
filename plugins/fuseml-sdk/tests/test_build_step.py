"""The build step, run as a job would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILDER = '''
from pathlib import Path
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import InvalidInput, Permanent
from fuseml_sdk.types import BuilderDescription, BuildResult, BuiltRunnable, RunnableDescriptor

class Builder:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.state = Path(state_dir)

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="toy", types=["toy"])

    @hookimpl
    def builder_build(self, request):
        assert self.state.is_dir()
        mode = Path(request.directory, "MODE").read_text()
        if mode == "invalid":
            raise InvalidInput("MLproject: line 3: no entry point", hint="Add `main`.")
        if mode == "permanent":
            raise Permanent("disk is broken")
        made = Path(request.output, "trainer")
        made.mkdir()
        (made / "requirements.lock").write_text("x==1")
        descriptor = RunnableDescriptor(kind="trainer", name=f"{request.name}-trainer", command=["true"],
                                        metadata={"parameters": dict(request.parameters)})
        return BuildResult(runnables=[BuiltRunnable(output="trainer", descriptor=descriptor),
                                      BuiltRunnable(output="extra", descriptor=descriptor)], warnings=["old file"])
'''


@pytest.fixture
def job(tmp_path):
    """Runs the build step with the variables of a job; gives the finished process."""
    (tmp_path / "toy_builder.py").write_text(BUILDER)
    code = tmp_path / "inputs" / "code"
    code.mkdir(parents=True)
    (tmp_path / "info.json").write_text(json.dumps({"project": "myproj", "name": "myapp", "digest": "git:" + "a" * 40}))
    (tmp_path / "config.json").write_text('{"alpha": 0.5}')

    def run(mode: str, address: str = "toy_builder:Builder", **more: str) -> subprocess.CompletedProcess[str]:
        (code / "MODE").write_text(mode)
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path),
               "FUSEML_INPUT_CODE": str(code), "FUSEML_INPUT_CODE_INFO": str(tmp_path / "info.json"),
               "FUSEML_OUTPUT_TRAINER": str(tmp_path / "outputs/trainer"),
               "FUSEML_OUTPUT_TRAINER_INFO": str(tmp_path / "outputs/trainer.json"),
               "FUSEML_CONFIG": str(tmp_path / "config.json"), "FUSEML_PARAMETER_BETA": "2", **more}
        return subprocess.run([sys.executable, "-m", "fuseml_sdk.build", address], env=env, capture_output=True,
                              text=True, timeout=60, check=False)

    return run


def test_r165_a_build_leaves_runnable_files_and_facts(job, tmp_path):
    done = job("ok")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "outputs" / "trainer"
    assert sorted(p.name for p in made.iterdir()) == ["requirements.lock", "runnable.json"]
    descriptor = json.loads((made / "runnable.json").read_text())
    assert descriptor["name"] == "myapp-trainer"
    assert descriptor["metadata"]["parameters"] == {"alpha": 0.5, "beta": "2"}
    info = json.loads((tmp_path / "outputs/trainer.json").read_text())
    assert (info["name"], info["type"]) == ("myapp-trainer", "trainer")
    assert info["metadata"]["code"] == {"project": "myproj", "name": "myapp", "digest": "git:" + "a" * 40}
    assert "warning: old file" in done.stderr
    assert "'extra', which this step does not ask for" in done.stderr


def test_the_same_build_gives_the_same_bytes(job, tmp_path):
    job("ok")
    first = (tmp_path / "outputs/trainer/runnable.json").read_bytes()
    job("ok")
    assert (tmp_path / "outputs/trainer/runnable.json").read_bytes() == first


def test_a_broken_codeset_exits_with_2_and_says_where(job):
    done = job("invalid")
    assert done.returncode == 2
    assert "MLproject: line 3: no entry point (Add `main`.)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_build_exits_with_1(job):
    done = job("permanent")
    assert (done.returncode, done.stderr) == (1, "The build failed: disk is broken\n")


def test_temporary_files_are_gone_afterwards(job, tmp_path):
    job("ok")
    job("invalid")
    assert not list(Path(tmp_path).glob("fuseml-build-*"))


def test_a_missing_codeset_is_explained(job):
    done = job("ok", FUSEML_INPUT_CODE="")
    assert done.returncode == 2
    assert "FUSEML_INPUT_CODE" in done.stderr


def test_an_unknown_builder_is_explained(job):
    done = job("ok", "toy_builder:Nobody")
    assert done.returncode == 1
    assert "has no attribute 'Nobody'" in done.stderr
