"""Commands against a server that answers what the test says: forms, requests, output and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fuseml_core.cli.client import Client
from fuseml_core.cli.context import current_project
from fuseml_core.cli.service import first_rows
from fuseml_core.domain.errors import Invalid, NotFound, Unavailable
from fuseml_core.settings import Settings, from_environment

Api = Any
Run = Any
RUN = {"name": "training-pipeline/1", "project": "default", "pipeline": "training-pipeline", "number": 1,
       "state": "failed", "change": "c1", "created_at": "2026-01-01T00:00:00Z", "inputs": [], "parameters": [],
       "outputs": [], "error": "step train failed",
       "steps": [{"name": "build", "state": "succeeded", "reused": True, "why": "unchanged since training-pipeline/0"},
                 {"name": "train", "state": "failed", "exit_code": 3, "message": "the script ended",
                  "log_tail": ["Traceback", "ValueError: no"], "metrics": [{"key": "rmse", "value": 0.5}]}]}
PIPELINE = {"name": "training-pipeline", "project": "default", "template": "mlflow/mlflow-training"}
ARTIFACT = {"address": "code://default/myapp@git:" + "f3b0924" + "0" * 33, "short": "code://default/myapp/f3b0924",
            "change": "c1"}


def test_r174_project_create(api: Api, run: Run) -> None:
    api.on("POST /projects", (201, {"name": "myproj"}))
    assert run("project", "create", "myproj") == (0, "Project myproj created.\n", "")
    assert api.asked == [("POST /projects", {"name": "myproj", "description": ""})]


def test_r175_project_set(api: Api, run: Run, settings: Settings) -> None:
    api.on("GET /projects/myproj", {"name": "myproj"})
    assert run("project", "set", "myproj")[0] == 0
    assert current_project(settings) == "myproj"
    code, _, err = run("project", "set", "other")
    assert (code, err) == (3, "Error: /projects/other is not there\n  look elsewhere\n")
    assert current_project(settings) == "myproj"


@pytest.mark.parametrize(("template", "name", "binding"), [
    ("mlflow-training", "training-pipeline", "mlflow_code=code://*"),
    ("kserve-serving", "serving-pipeline", "model=model://*")])
def test_r176_r177_pipeline_add(api: Api, run: Run, template: str, name: str, binding: str) -> None:
    api.on("POST /projects/default/pipelines", {"pipeline": {**PIPELINE, "name": name}, "started": [], "decisions": []})
    code, out, _ = run("pipeline", "add", template, "--name", name, "--input", binding)
    assert code == 0
    assert f"Pipeline {name} added to project default" in out
    key, _, value = binding.partition("=")
    assert api.asked[-1][1] == {"template": template, "name": name, "existing": "latest", "inputs": {key: value},
                                "parameters": {}}


def test_an_input_given_twice_is_wrong_usage(api: Api, run: Run) -> None:
    code, _, err = run("pipeline", "add", "t", "--input", "a=1", "--input", "a=2")
    assert code == 2
    assert "--input a is given twice." in err


def test_an_upgrade_to_a_certain_version_is_told_how(api: Api, run: Run) -> None:
    code, _, err = run("extension", "upgrade", "lights:0.3.0")
    assert (code, api.asked) == (2, [])
    assert "fuseml extension install lights:0.3.0" in err


def test_r179_without_a_project_the_default_one_is_made(api: Api, run: Run) -> None:
    api.on("GET /projects/default", (404, {"code": "not-found", "detail": "no"}), {"name": "default"})
    api.on("POST /projects", (201, {"name": "default"}))
    api.on("GET /projects/default/pipelines", [])
    code, out, err = run("pipeline", "list")
    assert (code, out) == (0, "")
    assert "using a new one named default" in err
    assert "There are no pipelines" in err


def test_a_current_project_that_is_gone_is_said_so(api: Api, run: Run, settings: Settings) -> None:
    api.on("GET /projects/p", {"name": "p"}, (404, {"code": "not-found"}))
    run("project", "set", "p")
    code, _, err = run("run", "list")
    assert code == 3
    assert "current project p does not exist any more" in err


def pushing(api: Api, folder: Path, bare: Path, **version: Any) -> list[str]:
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    folder.mkdir()
    (folder / "a.py").write_text("a")
    api.on("POST /projects/default/codesets", {"name": "myapp", "clone_url": str(bare)})
    made = {"artifact": ARTIFACT, "new": True, "change": "c1", **version}
    api.on("POST /projects/default/codesets/myapp/versions", made)
    return ["codeset", "push", str(folder), "--name", "myapp"]


def test_r178_push_says_what_started_and_what_did_not_and_why(api: Api, run: Run, tmp_path: Path) -> None:
    decisions = [{"pipeline": "training-pipeline", "decision": "fired", "run": "training-pipeline/1"},
                 {"pipeline": "other", "decision": "suppressed", "reason": "it is no MLflow project"}]
    code, out, err = run(*pushing(api, tmp_path / "code", tmp_path / "b.git", decisions=decisions))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "code://default/myapp/f3b0924", "  training-pipeline: started training-pipeline/1",
        "  other: not run: it is no MLflow project", "  Watch: fuseml change watch c1"]
    commit = api.asked[-1][1]["commit"]
    assert len(commit) == 40


def test_r178_push_of_equal_contents_says_so(api: Api, run: Run, tmp_path: Path) -> None:
    arguments = pushing(api, tmp_path / "code", tmp_path / "b.git", new=False, change=None)
    api.on("GET /changes/c1", {"id": "c1", "state": "settled", "cursor": 9, "events": [], "runs": []})
    run(*arguments)
    code, out, _ = run(*arguments, "--wait")
    assert (code, out) == (0, "code://default/myapp/f3b0924 (unchanged: no new version)\n")


def test_r194_a_push_that_the_server_noticed_by_itself_is_new_all_the_same(
        api: Api, run: Run, tmp_path: Path) -> None:
    arguments = pushing(api, tmp_path / "code", tmp_path / "b.git", new=False, change=None)
    fired = {"pipeline": "p", "decision": "fired", "run": "p/1", "address": ARTIFACT["address"]}
    later = {"pipeline": "q", "decision": "fired", "run": "q/1", "address": "model://default/m@sha256:0"}
    api.on("GET /changes/c1", {"id": "c1", "state": "active", "cursor": 9, "events": [], "runs": [],
                               "decisions": [fired, later]})
    code, out, _ = run(*arguments)
    assert (code, out.splitlines()) == (0, ["code://default/myapp/f3b0924", "  p: started p/1",
                                            "  Watch: fuseml change watch c1"])


def test_r28_push_warns_about_models_in_code(api: Api, run: Run, tmp_path: Path) -> None:
    arguments = pushing(api, tmp_path / "code", tmp_path / "b.git")
    (tmp_path / "code" / "model.onnx").write_bytes(b"x")
    code, _, err = run(*arguments)
    assert code == 0
    assert "Warning: model.onnx: models do not belong into code" in err


def test_push_of_a_missing_folder_asks_nobody(api: Api, run: Run, tmp_path: Path) -> None:
    code, _, err = run("codeset", "push", str(tmp_path / "no"), "--name", "x")
    assert code == 2
    assert "does not exist" in err
    assert api.asked == []


def test_r186_wait_prints_events_as_they_happen_and_fails_with_the_run(api: Api, run: Run, tmp_path: Path) -> None:
    arguments = pushing(api, tmp_path / "code", tmp_path / "b.git")
    started = [{"seq": 1, "text": "training-pipeline/1 build started"}]
    api.on("GET /changes/c1", {"state": "active", "cursor": 1, "events": started, "runs": []},
           {"state": "settled", "cursor": 2, "events": [{"seq": 2, "text": "training-pipeline/1 train failed"}],
            "runs": [RUN, {**RUN, "name": "x/1", "state": "succeeded"}]})
    api.on("GET /projects/default/runs/training-pipeline/1", RUN)
    code, out, err = run(*arguments, "--wait")
    assert code == 1
    assert [line.split(" s  ")[1] for line in out.splitlines() if " s  " in line] == [
        "training-pipeline/1 build started", "training-pipeline/1 train failed"]
    assert "step train failed with exit code 3: the script ended" in err
    assert "    ValueError: no" in err
    assert "Error: 1 of 2 runs did not succeed: training-pipeline/1 (failed)" in err
    assert any("after=1" in asked for asked, _ in api.asked)


def test_r186_wait_goes_on_while_the_server_is_away(api: Api, run: Run) -> None:
    away = (503, {"code": "unavailable", "detail": "control is starting"})
    api.on("GET /changes/c1", away, away, {"state": "settled", "cursor": 1, "events": [], "runs": []})
    assert run("change", "watch", "c1")[0] == 0


def test_r186_a_time_limit_leaves_the_runs_alone(api: Api, run: Run) -> None:
    api.on("GET /changes/c1", {"state": "active", "cursor": 0, "events": [], "runs": []})
    code, _, err = run("change", "watch", "c1", "--timeout", "0.2")
    assert code == 6
    assert "they go on" in err
    assert "fuseml change watch c1" in err


def test_r108_run_start_by_hand_with_other_parameters(api: Api, run: Run) -> None:
    api.on("POST /projects/default/pipelines/training-pipeline/runs", (201, {**RUN, "state": "pending"}))
    code, out, _ = run("run", "start", "training-pipeline", "--param", "alpha=0.5", "--no-cache")
    assert code == 0
    assert "Run training-pipeline/1 started." in out
    expected = {"inputs": {}, "parameters": {"alpha": "0.5"}, "no_cache": True}
    assert api.asked[-1][1].items() >= expected.items()


def test_run_get_says_why(api: Api, run: Run) -> None:
    api.on("GET /projects/default/runs/training-pipeline/1", RUN)
    code, out, _ = run("run", "get", "training-pipeline/1")
    assert code == 0
    for text in ("succeeded (reused)", "unchanged since training-pipeline/0", "exit code 3", "ValueError: no", "rmse"):
        assert text in out
    api.on("GET /projects/default/runs", [RUN])
    assert run("run", "get", "training-pipeline")[1] == out
    assert json.loads(run("run", "get", "training-pipeline/1", "-o", "json")[1]) == RUN


@pytest.mark.parametrize("name", ["a/b", "/1", "a/1/2"])
def test_a_run_name_of_the_wrong_form_is_refused(api: Api, run: Run, name: str) -> None:
    assert run("run", "get", name)[0] == 2


def test_run_logs_prints_pages_to_the_end(api: Api, run: Run) -> None:
    api.on("GET /projects/default/runs/training-pipeline/1", RUN)
    api.on("GET /projects/default/runs/training-pipeline/1/logs", {"text": "one\n", "cursor": "4", "complete": False},
           {"text": "two\n", "cursor": "8", "complete": True}, {"text": "", "cursor": "8", "complete": True})
    code, out, _ = run("run", "logs", "training-pipeline/1", "--step", "train")
    assert (code, out) == (0, "one\ntwo\n")
    code, _, err = run("run", "logs", "training-pipeline/1", "--step", "nope")
    assert code == 3
    assert "build, train" in err


def test_r183_results_show(api: Api, run: Run) -> None:
    items = [{"run": "training-pipeline/1", "state": "succeeded",
              "inputs": [{"name": "mlflow_code", "value": "code://p/a@git:1", "short": "code://p/a/f3b0924"}],
              "outputs": [{"name": "model", "value": "model://p/a@sha256:1", "short": "model://p/4c88e8f252be"}]},
             {"run": "serving-pipeline/1", "state": "running", "outputs": [],
              "inputs": [{"name": "predictor", "value": "sklearn", "default": True}]}]
    api.on("GET /projects/default/results", {"items": items})
    code, out, _ = run("pipeline", "results", "show", "--current-code", "--recursive")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["Pipeline/Run", "Inputs", "Outputs"]
    assert "predictor: sklearn (default)" in lines[3]
    assert lines[3].endswith("(running)")
    assert "current_code=true&recursive=true" in api.asked[-1][0]
    assert json.loads(run("pipeline", "results", "show", "-o", "json")[1])["items"] == items


def test_artifacts_are_read_page_by_page(api: Api, run: Run) -> None:
    item = {"address": "model://p/n@sha256:1", "short": "model://p/1", "type": "sklearn", "size": 2048}
    api.on("GET /artifacts", {"items": [item], "cursor": "x"}, {"items": [item], "cursor": None})
    code, out, _ = run("model", "list")
    assert (code, len(out.splitlines())) == (0, 4)
    assert "kind=model&project=default" in api.asked[-1][0]
    assert "cursor=x" in api.asked[-1][0]


def test_service_predict_sends_rows(api: Api, run: Run, tmp_path: Path) -> None:
    api.on("GET /projects/default/services/myapp", {"name": "myapp", "project": "default", "model": "model://default/m"})
    api.on("POST /serve/default/myapp/predict", {"predictions": [1.5]})
    (tmp_path / "rows.json").write_text("[[1, 2]]")
    code, out, _ = run("service", "predict", "myapp", "--data", f"@{tmp_path / 'rows.json'}")
    assert (code, json.loads(out)) == (0, {"predictions": [1.5]})
    assert api.asked[-1][1] == [[1, 2]]
    api.on("GET /artifacts/resolve", {"metadata": {"input_example": {"inputs": [[1.0], [2.0], [3.0], [4.0]]}}})
    assert run("service", "predict", "myapp", "--example")[0] == 0
    assert api.asked[-1][1] == [[1.0], [2.0], [3.0]]
    assert run("service", "predict", "myapp", "--data", "{")[0] == 2
    assert run("service", "predict", "myapp")[0] == 2
    api.on("POST /serve/default/myapp/predict", (400, {"error": "column x is missing"}))
    code, _, err = run("service", "predict", "myapp", "--data", "[[1]]")
    assert code == 1
    assert "column x is missing" in err


def test_example_rows_in_every_form_of_mlflow() -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    split = {"columns": ["a", "b"], "data": [[1, 2], [3, 4], [5, 6]]}
    assert first_rows({"dataframe_split": {"index": [0, 1, 2], **split}}, 2) == rows
    assert first_rows(split, 2) == rows
    assert first_rows({"dataframe_records": rows}, 1) == rows[:1]
    assert first_rows({"inputs": [[1], [2]]}, 1) == [[1]]


def test_config_show_hides_credentials(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_INDEX_URL", "https://user:secret@pypi.example.org/simple")
    code, out, _ = run("config", "show")
    assert code == 0
    assert "secret" not in out
    assert "https://***@pypi.example.org/simple" in out


def test_problems_become_errors_of_their_class(api: Api, settings: Settings) -> None:
    client = Client(settings)
    api.on("GET /projects/x", (400, {"code": "invalid", "detail": "wrong", "hint": "right", "details": {"a": 1}}))
    with pytest.raises(Invalid) as raised:
        client.get("projects", "x")
    assert (raised.value.message, raised.value.hint, raised.value.details) == ("wrong", "right", {"a": 1})
    api.on("GET /projects/x", (404, b"<html>"))
    with pytest.raises(NotFound, match="HTTP status 404"):
        client.get("projects", "x")


def test_names_are_escaped_in_paths(api: Api, settings: Settings) -> None:
    with pytest.raises(NotFound):
        Client(settings).get("projects", "a b?c#d")
    assert api.asked[-1][0] == "GET /projects/a%20b%3Fc%23d"


def test_streams_yield_lines_and_end_in_errors(api: Api, settings: Settings) -> None:
    lines = [{"event": "progress", "text": "1"}, {"event": "error", "code": "not-found", "detail": "no such bundle"}]
    api.on("POST /extensions", (200, b"\n".join(json.dumps(line).encode() for line in lines)))
    stream = Client(settings).stream("extensions", body={})
    assert next(stream)["text"] == "1"
    with pytest.raises(NotFound, match="no such bundle"):
        next(stream)


def test_a_server_that_is_not_there_is_a_clear_error(
        run: Run, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("FUSEML_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        Client(from_environment()).post("projects")
    monkeypatch.setenv("FUSEML_URL", "ftp://x")
    code, _, err = run("project", "list")
    assert code == 2
    assert "FUSEML_URL" in err


def test_r186_ctrl_c_leaves_the_runs_alone_and_says_how_to_look(api: Api) -> None:
    api.on("GET /changes/c1", {"state": "active", "cursor": 1, "events": [{"seq": 1, "text": "x"}], "runs": []})
    # Tests that run in the background of a shell inherit that SIGINT is ignored; who types commands does not.
    heeding = ("import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "runpy.run_module('fuseml_core.cli', run_name='__main__', alter_sys=True)")
    with subprocess.Popen([sys.executable, "-c", heeding, "change", "watch", "c1"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().endswith("x\n")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "The runs go on. Watch again: fuseml change watch c1" in err
    assert "Traceback" not in err


def test_r186_a_long_silence_is_broken_by_a_sign_of_life(
        api: Api, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuseml_core.cli.follow.QUIET", 0.0)
    going = {"name": "training-pipeline/1", "state": "running"}
    api.on("GET /changes/c1", {"state": "active", "cursor": 0, "events": [], "runs": [going]},
           {"state": "settled", "cursor": 0, "events": [], "runs": []})
    assert "... training-pipeline/1" in run("change", "watch", "c1")[1]


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b"])
@pytest.mark.parametrize("command", ["project set", "project delete", "codeset get", "codeset delete", "pipeline remove",
                                     "service stop", "extension uninstall"])
def test_what_is_no_name_reaches_no_route_of_the_server(api: Api, run: Run, command: str, name: str) -> None:
    code, _, err = run(*command.split(), name)
    assert code == 2
    assert f"{name!r} is not a name" in err
    assert [path for path, _ in api.asked] in ([], ["GET /projects/default"])


@pytest.mark.parametrize("command", ["codeset push", "train"])
def test_an_empty_path_is_not_the_current_folder(run: Run, command: str) -> None:
    code, _, err = run(*command.split(), "")
    assert code == 2
    assert "write . for the current folder" in err


def test_an_empty_name_of_a_run_is_refused(api: Api, run: Run) -> None:
    assert run("run", "get", "")[0] == 2
    assert not [path for path, _ in api.asked if "runs" in path]


def test_r165_runnables_can_be_listed_by_kind(api: Api, run: Run) -> None:
    from typing import get_args

    from fuseml_core.cli.artifact import RUNNABLE_KINDS
    from fuseml_sdk.types import RunnableKind

    api.on("GET /artifacts", {"items": [{"short": "runnable://fuseml/lights/lamp/1", "type": "agent"}], "cursor": None})
    code, out, _ = run("runnable", "list", "--kind", "agent")
    assert code == 0
    assert "runnable://fuseml/lights/lamp/1" in out
    assert "type=agent" in api.asked[-1][0]
    assert run("runnable", "list", "--kind", "lamp")[0] == 2
    assert set(RUNNABLE_KINDS) == {*get_args(RunnableKind), "store"}
