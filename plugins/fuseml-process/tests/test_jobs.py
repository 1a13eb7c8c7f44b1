"""Jobs: what a runnable sees, what is collected from it, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fuseml_process import launching
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady
from fuseml_sdk.types import AgentDescription

Repository = Callable[[dict[str, str]], tuple[Path, str]]
SHOW = "import os,json,sys; print(json.dumps({'env': dict(os.environ), 'argv': sys.argv[1:], 'cwd': os.getcwd()}))"


def seen(bench: Any, **fields: Any) -> dict[str, Any]:
    status = bench.run(SHOW, **fields)
    assert status.state == "succeeded", status
    return dict(json.loads(bench.log(status.name)))


def test_r164_describe_says_what_fits(bench: Any) -> None:
    found = bench.plugin.agent_describe()
    assert isinstance(found, AgentDescription)
    assert found.kinds == ["job", "service"]
    assert found.capacity["jobs"] == 8


def test_r42_entry_point_runs_a_command_a_script_or_python(bench: Any, tmp_path: Path) -> None:
    script = tmp_path / "hello.sh"
    script.write_text("#!/bin/sh\necho hello from $0\n")
    script.chmod(0o755)
    for command in (["echo", "hello"], [str(script)], ["python", "-c", "print('hello')"]):
        status = bench.run(command)
        assert (status.state, status.exit_code) == ("succeeded", 0)
        assert "hello" in bench.log(status.name)
    missing = bench.run(["no-such-program"])
    assert (missing.state, missing.reason) == ("failed", "Command")
    assert "no-such-program" in missing.message
    plain = tmp_path / "plain"
    plain.write_text("echo")
    plain.chmod(0o755)
    assert bench.run([str(plain)]).reason == "Command"


def test_r51_r52_parameters_by_environment(bench: Any) -> None:
    env = seen(bench, knobs=[{"name": "alpha", "type": "float"}, {"name": "n-est.x"}, {"name": "deep"}],
               parameters={"alpha": 0.5, "n-est.x": 3, "deep": True, "extra": "e"}, open_parameters=True)["env"]
    assert (env["FUSEML_PARAMETER_ALPHA"], env["FUSEML_PARAMETER_N_EST_X"]) == ("0.5", "3")
    assert (env["FUSEML_PARAMETER_DEEP"], env["FUSEML_PARAMETER_EXTRA"]) == ("true", "e")


def test_r53_parameters_by_argument(bench: Any) -> None:
    found = seen(bench, knobs=[{"name": "alpha", "deliver": "argument", "argument": "--alpha"},
                               {"name": "last", "deliver": "argument"}],
                 parameters={"alpha": 0.5, "last": "a b; $(c)"})
    assert found["argv"] == ["--alpha", "0.5", "a b; $(c)"]
    assert "FUSEML_PARAMETER_ALPHA" not in found["env"]


def test_r53_placeholders_in_the_command(bench: Any) -> None:
    status = bench.run(["echo", "{parameter.x}", "{output.o}/m", "{runnable}", "{python}", "{literal}"],
                       knobs=[{"name": "x", "deliver": "argument"}], parameters={"x": 7},
                       outputs=[{"name": "o", "kind": "model", "optional": True}])
    words = bench.log(status.name).split()
    assert words[0] == "7"
    assert words[1].endswith(f"{status.name}/outputs/o/m")
    assert words[4] == "{literal}"
    assert len(words) == 5


def test_r54_parameters_by_config_file(bench: Any, tmp_path: Path) -> None:
    status = bench.run("import os; print(open(os.environ['FUSEML_CONFIG']).read())",
                       knobs=[{"name": "depth", "type": "integer", "deliver": "config"}], parameters={"depth": 3},
                       takes=[{"name": "data", "kind": "dataset", "deliver": "config"}],
                       inputs=[{"name": "data", "kind": "dataset", "location": {"uri": tmp_path.as_uri()}}])
    assert json.loads(bench.log(status.name)) == {"depth": 3, "data": str(tmp_path)}


def test_r57_codesets_are_checked_out_privately(bench: Any, repository: Repository) -> None:
    bare, commit = repository({"train.py": "print('trained')\n", "sub/.gitattributes": "secret.txt export-ignore\n",
                               "sub/secret.txt": "$Format:%H$\n", "escape": "-> /etc/hostname"})
    uri = f"git+{bare.as_uri()}?commit={commit}"
    status = bench.run(["{python}", "train.py"], working_directory="code", takes=[{"name": "code", "kind": "codeset"}],
                       inputs=[{"name": "code", "kind": "codeset", "location": {"uri": uri}, "digest": f"git:{commit}",
                                "metadata": {"name": "app"}}])
    assert status.state == "succeeded", status
    assert bench.log(status.name) == "trained\n"
    checkout = bench.root / status.name / "inputs/code"
    assert (checkout / "sub/secret.txt").read_text() == "$Format:%H$\n"
    assert (checkout / "escape").is_symlink()
    assert not (checkout / ".git").exists()
    info = json.loads((bench.root / status.name / "info/input-code.json").read_text())
    assert info == {"kind": "codeset", "name": "app", "digest": f"git:{commit}"}


def test_r57_missing_inputs_say_what_is_missing(bench: Any, repository: Repository, tmp_path: Path) -> None:
    bare, _commit = repository({"a": "a"})
    takes = [{"name": "x", "kind": "codeset"}]
    for uri, words in ((f"git+{bare.as_uri()}?commit={'0' * 40}", "commit"), (f"git+{bare.as_uri()}?commit=main", "full id"),
                       ((tmp_path / "none").as_uri(), "does not exist"), ("git+file:///none?commit=" + "0" * 40, "none")):
        status = bench.run("pass", takes=takes, inputs=[{"name": "x", "kind": "codeset", "location": {"uri": uri}}])
        assert (status.state, status.reason) == ("failed", "Staging")
        assert "input x" in status.message
        assert words in status.message


def test_r57_submodules_are_left_empty_with_a_warning(bench: Any, repository: Repository, tmp_path: Path) -> None:
    bare, _ = repository({"a": "a"})
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(tmp_path / "clone")]
    subprocess.run([*git, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "module"], check=True)
    subprocess.run([*git, "push", "-q", str(bare), "HEAD:main"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    uri = f"git+{bare.as_uri()}?commit={commit}"
    status = bench.run("pass", takes=[{"name": "x", "kind": "codeset"}],
                       inputs=[{"name": "x", "kind": "codeset", "location": {"uri": uri}}])
    assert status.state == "succeeded"
    assert "module" in status.warnings[0]


def test_r57_models_are_given_in_place(bench: Any, tmp_path: Path) -> None:
    model = tmp_path / "a model"
    model.mkdir()
    env = seen(bench, takes=[{"name": "model", "kind": "model"}, {"name": "none", "kind": "model", "optional": True}],
               inputs=[{"name": "model", "kind": "model", "location": {"uri": model.as_uri()}}])["env"]
    assert env["FUSEML_INPUT_MODEL"] == str(model)
    assert "FUSEML_INPUT_NONE" not in env


MAKE = """
import json, os, pathlib
out = pathlib.Path(os.environ["FUSEML_OUTPUT_MODEL"]); (out/"sub").mkdir(); (out/"sub/m.bin").write_bytes(b"123")
open(os.environ["FUSEML_OUTPUT_MODEL_INFO"], "w").write(json.dumps({"name": "best", "type": "mlflow/sklearn",
    "labels": {"a": "b"}, "metadata": {"flavor": "sklearn"}}))
many = pathlib.Path(os.environ["FUSEML_OUTPUT_SEVERAL"])
for name in ("one", "two"):
    (many/name).mkdir(); (many/name/"f").write_text(name)
open(os.environ["FUSEML_OUTPUT_SEVERAL_INFO"], "w").write(json.dumps({"two": {"name": "second"}}))
open(os.environ["FUSEML_OUTPUT_URL"], "w").write("http://x/\\n")
with open(os.environ["FUSEML_METRICS"], "w") as f:
    f.write('{"key": "rmse", "value": 0.5, "step": 2, "timestamp": 9.5}\\nnonsense\\n{"key": "n", "value": NaN}\\n')
"""


def test_r58_outputs_are_collected(bench: Any) -> None:
    status = bench.run(MAKE, outputs=[{"name": "model", "kind": "model"}, {"name": "several", "kind": "dataset", "many": True},
                                      {"name": "url", "kind": "value"}, {"name": "spare", "kind": "model", "optional": True}])
    assert status.state == "succeeded", status
    model, one, two, url = status.outputs
    assert (model.artifact_name, model.type, model.labels, model.metadata) == (
        "best", "mlflow/sklearn", {"a": "b"}, {"flavor": "sklearn"})
    assert [(f.path, f.size) for f in model.files] == [("sub/m.bin", 3)]
    assert model.files[0].digest == "sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    assert model.location.uri == (bench.root / status.name / "outputs/model").as_uri()
    assert [(o.name, o.artifact_name) for o in (one, two)] == [("several", "one"), ("several", "second")]
    assert (url.kind, url.value) == ("value", "http://x/")
    assert [(m.key, m.value, m.step, m.timestamp) for m in status.metrics] == [("rmse", 0.5, 2, 9.5)]
    assert "2 lines" in status.warnings[0]


BAD_INFO = """
import os
open(os.environ["FUSEML_OUTPUT_MODEL"] + "/x", "w").close()
open(os.environ["FUSEML_OUTPUT_MODEL_INFO"], "w").write("[")
"""


@pytest.mark.parametrize(("code", "reason"), [
    ("pass", "MissingOutput"),
    ("import os; os.symlink('/etc/hostname', os.environ['FUSEML_OUTPUT_MODEL'] + '/x')", "InvalidOutput"),
    ("import os; os.mkfifo(os.environ['FUSEML_OUTPUT_MODEL'] + '/x')", "InvalidOutput"),
    (BAD_INFO, "InvalidOutput"),
])
def test_r58_outputs_that_cannot_be_stored_fail_the_job(bench: Any, code: str, reason: str) -> None:
    status = bench.run(code, outputs=[{"name": "model", "kind": "model"}])
    assert (status.state, status.reason) == ("failed", reason)
    assert "model" in status.message


def test_r59_a_workload_needs_no_code_of_fuseml(bench: Any) -> None:
    status = bench.run(["/bin/sh", "-c", "echo 42 > $FUSEML_OUTPUT_ANSWER"], outputs=[{"name": "answer", "kind": "value"}])
    assert status.outputs[0].value == "42"


def test_r162_the_environment_is_private(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_SECRET", "s3cret")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = seen(bench, env={"MINE": "yes"}, labels={"project": "myproj"})
    env = found["env"]
    assert "SERVER_SECRET" not in env
    assert "PYTHONDONTWRITEBYTECODE" not in env
    assert (env["MINE"], env["FUSEML_PROJECT"]) == ("yes", "myproj")
    assert found["cwd"] == env["HOME"]
    assert env["HOME"].endswith("/scratch")
    status = bench.run("import os,sys; print(oct(os.umask(0)), sys.stdin.read() == '', os.getsid(0) == os.getpid())")
    assert bench.log(status.name).split() == ["0o77", "True", "True"]


def test_exit_codes_and_signals(bench: Any) -> None:
    status = bench.run("print('one'); print('two'); raise SystemExit(3)")
    assert (status.state, status.reason, status.exit_code, status.log_tail) == ("failed", "ExitCode", 3, ["one", "two"])
    status = bench.run("import os; os.kill(os.getpid(), 11)")
    assert (status.state, status.reason, status.signal) == ("failed", "Signal", 11)
    assert "SIGSEGV" in status.message
    status = bench.run("import os; os.kill(os.getpid(), 9)")
    assert (status.signal, "memory" in status.message) == (9, True)
    status = bench.run(["bash", "-c", "bash -c 'kill -9 $$'; exit $?"])
    assert (status.reason, status.exit_code, "memory" in status.message) == ("ExitCode", 137, True)


def test_r55_time_limit(bench: Any) -> None:
    status = bench.run("import time; time.sleep(60)", timeout=0.4)
    assert (status.state, status.reason) == ("failed", "Timeout")
    assert "0.4 s" in status.message


def test_r55_memory_limit(bench: Any) -> None:
    hog = "x = bytearray(200 << 20); import time; time.sleep(60)"
    status = bench.run(["{python}", "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}])"],
                       resources={"memory": 100 << 20})
    assert (status.state, status.reason) == ("failed", "OutOfMemory")
    assert "100 MiB" in status.message


def test_r55_resources_beyond_the_machine_are_refused(bench: Any) -> None:
    for resources, word in (({"cpu": 10_000}, "cores"), ({"memory": 1 << 60}, "memory"), ({"gpu": 99}, "GPU"),
                            ({"storage": 1 << 60}, "storage")):
        with pytest.raises(InvalidInput, match=word):
            bench.submit("pass", resources=resources)


def test_impossible_workloads_are_refused(bench: Any) -> None:
    for fields in ({"takes": [{"name": "x", "kind": "model"}]}, {"parameters": {"unknown": 1}}, {"kind": "service"},
                   {"environment": {"image": "ubuntu"}}, {"capabilities": {"gpu-type": "a100"}},
                   {"contents": {"uri": "s3://bucket/x"}}):
        with pytest.raises(InvalidInput):
            bench.submit("pass", **fields)
    with pytest.raises(InvalidInput, match="does not declare"):
        bench.submit(["echo", "{input.code}"])


def test_jobs_beyond_the_limit_wait(bench: Any) -> None:
    bench.start(limits={"jobs": 1, "services": 1, "memory": 2 << 30})
    first = bench.submit("import time; time.sleep(60)", resources={"memory": 1 << 30})
    with pytest.raises(NotReady, match="at most 1"):
        bench.submit("pass")
    bench.plugin.agent_cancel(first, 0)
    bench.until(first)
    assert bench.run("pass").state == "succeeded"
    bench.start(limits={"jobs": 4, "memory": 2 << 30})
    second = bench.submit("import time; time.sleep(60)", resources={"memory": 3 << 29})
    with pytest.raises(NotReady, match="memory"):
        bench.submit("pass", resources={"memory": 1 << 30})
    assert bench.plugin.agent_status([second])[0].state != "failed"


def test_logs_by_cursor(bench: Any) -> None:
    name = bench.submit("print('ä' * 10, flush=True); import time; time.sleep(0.3); print('end')")
    bench.until(name)
    text, cursor = "", ""
    for _ in range(20):
        chunk = bench.plugin.agent_logs(name, cursor, 5)
        text, cursor = text + chunk.text, chunk.cursor
        if chunk.complete:
            break
    assert text == "ä" * 10 + "\nend\n"
    with pytest.raises(NotFound):
        bench.plugin.agent_logs("never", "", 10)


def test_logs_are_capped(bench: Any) -> None:
    bench.start(log_limit=1000)
    status = bench.run("for i in range(10000): print(i)")
    assert status.state == "succeeded"
    log = bench.log(status.name)
    assert len(log) < 1200
    assert "cut off" in log
    assert status.log_tail[-1] == "9999"


def test_collect_removes_everything_once(bench: Any) -> None:
    status = bench.run("pass")
    assert (bench.root / status.name).exists()
    assert bench.plugin.agent_collect(status.name) is True
    assert bench.plugin.agent_collect(status.name) is False
    assert not (bench.root / status.name).exists()
    assert bench.plugin.agent_status([status.name])[0].state == "unknown"
    name = bench.submit("import time; time.sleep(60)")
    with pytest.raises(InvalidInput, match="not ended"):
        bench.plugin.agent_collect(name)


def test_names_cannot_leave_the_root(bench: Any) -> None:
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(InvalidInput):
            bench.plugin.agent_status([name])


def test_no_supervisor_is_left_as_a_zombie(bench: Any) -> None:
    before = zombies()  # of other tests in this process
    for _ in range(3):
        bench.run("pass")
    deadline = time.monotonic() + 10
    while launching._children and time.monotonic() < deadline:  # they end a moment after their last report
        bench.plugin.agent_events("", 0)
        time.sleep(0.02)
    assert launching._children == set()
    assert set(zombies()) <= set(before)


def zombies() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            found += [path.parent.name] if fields[0] == "Z" and int(fields[1]) == os.getpid() else []
    return found
