"""Parts of the trainer that need no MLflow: commands, advice, store layouts, names."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fuseml_mlflow.trainer import outputs
from fuseml_mlflow.trainer.advice import advice
from fuseml_mlflow.trainer.command import compose
from fuseml_mlflow.trainer.errors import TrainingError
from fuseml_mlflow.trainer.filestore import FileStore, read_history, read_models
from fuseml_mlflow.trainer.runs import Measure, last_values
from fuseml_mlflow.trainer.settings import EntryPoint, Parameter, Settings, load
from fuseml_mlflow.trainer.worktree import marks, new_models


def settings(folder, parameters, command, data=None, **values):
    return Settings(contents=folder, code=folder, scratch=folder / "scratch", output=folder / "out", output_info=None,
                    metrics=None, entry_point=EntryPoint("main", command, parameters), codeset={"name": "app"},
                    project="p", workload="", data=data, tracking_uri="", values=values)


def with_values(known, **values):
    """The same settings with given values, also for a parameter called `data`."""
    return replace(known, values=values)


def test_r104_values_are_quoted_and_extra_ones_appended_as_mlflow_does(tmp_path):
    entry = [Parameter("alpha", "float", "0.5"), Parameter("note", "string", None)]
    made = compose(settings(tmp_path, entry, "train {alpha} {note}", note="it's $HOME", extra="a b"))
    assert made.line == """train 0.5 'it'"'"'s $HOME' --extra 'a b'"""
    assert made.logged == {"alpha": "0.5", "note": "it's $HOME", "extra": "a b"}


def test_r101_a_missing_value_is_named(tmp_path):
    with pytest.raises(TrainingError, match="no value for the parameter 'data'"):
        compose(settings(tmp_path, [Parameter("data", "path", None)], "train {data}"))


def test_r100_a_path_is_absolute_and_must_exist(tmp_path):
    (tmp_path / "d.csv").write_text("x")
    entry = [Parameter("data", "path", "d.csv")]
    assert compose(settings(tmp_path, entry, "t {data}")).line == f"t {tmp_path}/d.csv"
    assert compose(settings(tmp_path, entry, "t {data}", data=None)).logged == {"data": "d.csv"}
    with pytest.raises(TrainingError, match="no such file"):
        compose(with_values(settings(tmp_path, entry, "t {data}"), data="other.csv"))


def test_r100_a_uri_is_passed_through_and_checked(tmp_path):
    entry = [Parameter("source", "uri", None)]
    assert compose(settings(tmp_path, entry, "t {source}", source="s3://b/k")).line == "t s3://b/k"
    with pytest.raises(TrainingError, match="must be a URI"):
        compose(settings(tmp_path, entry, "t {source}", source="k"))


def test_r90_r100_a_dataset_is_given_to_the_parameter_that_takes_it(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "wine.csv").write_text("x")
    path, uri = Parameter("data", "path", None), Parameter("source", "uri", "https://e.org/x")
    assert compose(settings(tmp_path, [uri, path], "t {data} {source}", data=data)).line == \
        f"t {data}/wine.csv https://e.org/x"
    assert compose(settings(tmp_path, [uri], "t {source}", data=data)).line == f"t file://{data}/wine.csv"
    second = Parameter("test", "path", None)
    named = with_values(settings(tmp_path, [path, second], "t {data} {test}", data=data), data=str(tmp_path),
                        test="{input.data}")
    assert compose(named).line == f"t {tmp_path} {data}/wine.csv"
    (data / "second.csv").write_text("x")
    assert compose(settings(tmp_path, [path], "t {data}", data=data)).line == f"t {data}"


def test_r100_a_path_with_a_url_is_downloaded(tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a b.csv").write_text("1,2\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "www"))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        entry = [Parameter("data", "path", None)]
        made = compose(with_values(settings(tmp_path, entry, "cat {data}"), data=f"{url}/a%20b.csv"))
        assert subprocess.run(["bash", "-c", made.line], capture_output=True, check=True).stdout == b"1,2\n"
        with pytest.raises(TrainingError, match="cannot be fetched"):
            compose(with_values(settings(tmp_path, entry, "cat {data}"), data=f"{url}/no"))
    finally:
        server.shutdown()
        server.server_close()


def test_parameters_come_from_the_config_file_and_from_variables(tmp_path):
    (tmp_path / "project.json").write_text(json.dumps({
        "entry_point": "main", "command": "t", "parameters": [
            {"name": "l1-ratio", "type": "float", "default": None}, {"name": "alpha", "type": "float", "default": None}]}))
    (tmp_path / "config.json").write_text('{"alpha": 0.5, "Extra": "x"}')
    env = {"FUSEML_INPUT_CODE": str(tmp_path), "FUSEML_OUTPUT_MODEL": str(tmp_path), "FUSEML_PARAMETER_ALPHA": "9",
           "FUSEML_CONFIG": str(tmp_path / "config.json"), "FUSEML_PARAMETER_L1_RATIO": "0.1",
           "FUSEML_PARAMETER_MORE": "1"}
    assert load(tmp_path, env).values == {"alpha": "0.5", "Extra": "x", "l1-ratio": "0.1", "more": "1"}


@pytest.mark.parametrize(("log", "remedy"), [
    ("references untrusted types. Untrusted types found in the file: ['__main__.double'].",
     "skops_trusted_types=['__main__.double']"),
    ("The sklearn model could not be serialized in the skops serialization format.", 'serialization_format="cloudpickle"'),
    ("Cannot start run with ID x because active experiment ID does not match environment run ID.", "set_experiment"),
    ("Changing param values is not allowed. Param with key='alpha'", "under other names"),
    ("Traceback\nModuleNotFoundError: No module named 'xgboost'\n", "'xgboost' is not in the project's environment"),
])
def test_known_failures_come_with_a_remedy(log, remedy):
    assert remedy in (advice(log) or "")


def test_unknown_failures_come_without_advice():
    assert advice("ValueError: x") is None


def test_r93_metric_history_is_read_once_per_measure(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "r2").write_text("2000 0.7 3\n1000 0.5 0\n1000 0.5 0 runid\n")
    history = read_history(tmp_path)
    assert history == [Measure("a/r2", 0.5, 0, 1000), Measure("a/r2", 0.7, 3, 2000)]
    assert last_values(history) == {"a/r2": 0.7}


def test_r93_values_that_json_lacks_are_named_instead_of_recorded(tmp_path, capsys):
    outputs.write_metrics([Measure("x", float("nan"), 1, 0), Measure("y", 2.0, 1, 1500)], tmp_path / "m")
    assert (tmp_path / "m").read_text() == '{"key": "y", "value": 2.0, "step": 1, "timestamp": 1.5}\n'
    assert "'x' is nan at step 1" in capsys.readouterr().out


def logged(root, number, name, status=2, run="r", created=0):
    directory = root / "0" / "models" / f"m-{number}"
    (directory / "artifacts").mkdir(parents=True)
    (directory / "meta.yaml").write_text(json.dumps({
        "model_id": f"m-{number}", "name": name, "status": status, "source_run_id": run, "creation_timestamp": created}))
    (directory / "artifacts" / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    return directory / "artifacts"


def artifact(root, run, name):
    directory = root / "0" / run / "artifacts" / name
    directory.mkdir(parents=True)
    (directory / "MLmodel").write_text("model_uuid: u\nflavors: {sklearn: {}}\n")
    return directory


def test_r105_r106_logged_models_come_before_run_artifacts(tmp_path):
    expected = logged(tmp_path, 1, "model")
    artifact(tmp_path, "r", "other")
    assert [m.directory for m in read_models(tmp_path, "r")] == [expected]


def test_r105_models_of_the_run_come_before_those_of_others_and_only_ready_ones_count(tmp_path):
    logged(tmp_path, 1, "model", run="other")
    logged(tmp_path, 2, "model", status=1)
    expected = logged(tmp_path, 3, "model", created=5)
    logged(tmp_path, 4, "model", created=4)
    assert [m.directory for m in read_models(tmp_path, "r")] == [expected]
    assert len(read_models(tmp_path, "nobody")) == 2


def test_r105_artifacts_of_mlflow_2_and_no_models_within_models(tmp_path):
    expected = artifact(tmp_path, "r", "a/model")
    artifact(tmp_path, "r", "a/model/inner")
    models = read_models(tmp_path, "r")
    assert [(m.directory, m.name) for m in models] == [(expected, "a/model")]


def test_r105_new_models_in_the_working_tree_are_found_at_last(tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "MLmodel").write_text("flavors: {}\n")
    before = marks(tmp_path)
    new = tmp_path / "sub" / "mine"
    new.mkdir(parents=True)
    (new / "MLmodel").write_text("flavors: {}\n")
    assert [m.name for m in new_models(tmp_path, before)] == ["mine"]


def test_r92_names_of_one_and_of_several_models(tmp_path):
    (tmp_path / "serving.lock").write_text("")
    one = settings(tmp_path, [], "t")
    logged(tmp_path, 1, "Best Model", created=1)
    logged(tmp_path, 2, "deadbeef0", created=2)
    models = read_models(tmp_path, "r")
    info_file = tmp_path / "info.json"
    several = replace(one, output_info=info_file)
    assert outputs.hand_over(models, several) == ["best-model", "model-deadbeef0"]
    info = json.loads(info_file.read_text())
    assert [item["name"] for item in info.values()] == ["app-best-model", "app-model-deadbeef0"]
    assert json.loads((tmp_path / "out/best-model/.fuseml/environment.json").read_text())["python"]
    alone = replace(several, output=tmp_path / "alone")
    outputs.hand_over(models[:1], alone)
    assert json.loads(info_file.read_text())["best-model"]["name"] is None


def test_experiments_have_the_same_number_every_time(tmp_path):
    assert FileStore(tmp_path, "p/app").experiment_id == FileStore(tmp_path, "p/app").experiment_id


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.13"])
def test_the_trainer_runs_with_the_python_of_the_project(version):
    from fuseml_sdk.environments import find_python
    from fuseml_sdk.errors import PluginError

    try:
        python, _ = find_python(version, strict=True)
    except PluginError:
        pytest.skip(f"no Python {version} here")
    source = Path(outputs.__file__).parent.parent
    code = f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(source)!r}); import trainer.main"
    subprocess.run([str(python), "-I", "-c", code], check=True, timeout=60)


def test_r104_signals_reach_the_entry_point_and_its_exit_code_is_passed_on(tmp_path):
    script = ("import sys; sys.path.insert(0, sys.argv[1])\n"
              "from fuseml_mlflow.trainer.process import run\nfrom pathlib import Path\nimport os\n"
              "r = run('trap \"echo stopped; exit 7\" TERM; echo begun; sleep 30 & wait', Path('.'), dict(os.environ))\n"
              "print('code', r.code, repr(r.tail))")
    process = subprocess.Popen([sys.executable, "-c", script, str(Path(outputs.__file__).parents[2])],
                               stdout=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert "stopped\ncode 7" in rest
    assert time.monotonic() - began < 10
