"""The main job with an extension that needs no packages: push, train, register, serve, predict; then push again."""

from __future__ import annotations

import re


def test_r178_r180_r181_r184_r185_r186_a_push_is_trained_registered_and_served(project):
    """Two wildcards suffice: the push prints the steps as they happen, and the results table tells what came out."""
    project.add_pipelines()

    pushed = project.push(numbers="1 2 3\n")

    assert re.search(r"\d s  training-pipeline/1 collect: ", pushed.out)
    assert re.search(r"\d s  serving-pipeline/1 serve: serving at http://", pushed.out)
    table = project("pipeline", "results", "show", "--current-code", "--recursive").out.splitlines()
    assert table[0].split() == ["Pipeline/Run", "Inputs", "Outputs"]
    assert set(table[1]) == {"-", " "}
    text = "\n".join(table)
    assert re.search(rf"training-pipeline/1 +code: code://{project.name}/myapp/[0-9a-f]{{7}} ", text)
    assert "smallest: 0 (default)" in text
    assert re.search(rf"serving-pipeline/1 +model: model://{project.name}/[0-9a-f]{{12}} ", text)
    assert "predictor: mean (default)" in text
    assert re.search(rf"url: http://\S+/{project.name}/myapp/predict", text)


def test_r109_r112_the_prediction_is_right_and_the_run_lists_its_jobs_and_services(project):
    """The service's URL, as the table prints it, takes plain rows."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")

    service = project.json("service", "get", "myapp")
    training, serving = project.run("training-pipeline/1"), project.run("serving-pipeline/1")

    assert service["state"] == "ready"
    assert project.fuseml.post(service["url"], [1, 10])["predictions"] == [2.0, 20.0]
    assert [step["state"] for step in training["steps"].values()] == ["succeeded", "succeeded"]
    assert all(step["workload"] and step["agent"] for step in training["steps"].values())
    assert serving["steps"]["serve"]["workload"] == service["instance"]


def test_r11_r12_r15_r58_r93_artifacts_have_descriptors_with_digest_location_producer_and_metrics(project):
    """The model says what it is, where it is, who made it; the run has the metrics."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 3\n")

    (model,) = project.json("model", "list")
    (dataset,) = project.json("dataset", "list")
    steps = project.run("training-pipeline/1")["steps"]

    assert re.fullmatch(rf"model://{project.name}/myapp@sha256:[0-9a-f]{{64}}", model["address"])
    assert model["type"] == "numbers/mean"
    assert model["location"]
    assert model["metadata"]["flavor"] == "mean"
    assert model["producer"] == {"run": "training-pipeline/1", "step": "fit"}
    assert dataset["producer"]["step"] == "collect"
    assert {m["key"]: m["value"] for m in steps["collect"]["metrics"]} == {"count": 3.0}
    assert {m["key"]: m["value"] for m in steps["fit"]["metrics"]} == {"mean": 2.0}


def test_r10_r29_the_same_contents_make_no_new_version_and_no_run(project):
    """Artifacts are immutable and identified by their contents."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 3\n")
    project.push(numbers="1 2 3\n")

    assert len(project.json("codeset", "get", "myapp")["versions"]) == 1
    assert len(project.json("run", "list")) == 1


def test_r80_r83_a_change_that_no_step_looks_at_reuses_what_there_is(project):
    """A new README is a new version of the code; the run says that the step was reused and why."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 3\n")
    project.push(readme="# About\n")

    assert len(project.json("codeset", "get", "myapp")["versions"]) == 2
    steps = project.run("training-pipeline/2")["steps"]
    assert [step["reused"] for step in steps.values()] == [True, True]
    assert "training-pipeline/1" in steps["collect"]["why"]
    assert len(project.json("model", "list")) == 1


def test_r107_r182_a_change_that_matters_makes_a_new_model_of_the_current_code(project):
    """The step says which file changed, and only the new results belong to the current code."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 3\n")
    project.push(numbers="1 2 6\n")

    step = project.run("training-pipeline/2")["steps"]["collect"]
    assert not step["reused"]
    assert "numbers.txt" in step["why"]
    current = project.json("pipeline", "results", "show", "--current-code", "--recursive")["items"]
    assert [item["run"] for item in current] == ["training-pipeline/2"]
    assert len(project.json("pipeline", "results", "show")["items"]) == 2


def test_r108_a_run_by_hand_takes_other_parameters(project):
    """Without a push, with a parameter; the result is another model, and the parameter is no default any more."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 6\n")

    run = project.json("run", "start", "training-pipeline", "--param", "smallest=2", "--wait")

    assert run["state"] == "succeeded"
    assert {p["name"]: (p["value"], p["default"]) for p in run["parameters"]}["smallest"] == (2, False)
    steps = {step["name"]: step for step in run["steps"]}
    assert {m["key"]: m["value"] for m in steps["fit"]["metrics"]} == {"mean": 4.0}


def test_r51_r52_r53_r57_r59_parameters_and_inputs_reach_a_program_without_fuseml_code(project):
    """As a variable, as an argument and in a file; the input is a directory."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 6\n")

    run = project.json("run", "start", "training-pipeline", "--param", "smallest=2", "--param", "factor=10",
                       "--param", "note=hello", "--wait")

    metrics = {m["key"]: m["value"] for step in run["steps"] for m in step["metrics"]}
    assert metrics == {"count": 2.0, "mean": 40.0}


def test_r90_r95_r114_a_dataset_of_one_pipeline_triggers_another(project):
    """The two share no more than the type of an artifact."""
    project("pipeline", "add", "mean-of-data", "--name", "means", "--input", "numbers=dataset://*")
    project.add_pipelines(serve=False)

    pushed = project.push(numbers="1 2 3\n")

    assert "means/1 fit" in pushed.out
    (item,) = project.run("means/1")["inputs"]
    assert item["address"].startswith(f"dataset://{project.name}/")


def test_r17_artifacts_are_found_by_movable_names_too(project):
    """A branch is an alias: it follows the pushes, while the commits stay."""
    project.push(numbers="1\n")
    first = project.json("artifact", "get", f"code://{project.name}/myapp:main")
    project.push(numbers="2\n")
    second = project.json("artifact", "get", f"code://{project.name}/myapp:main")

    assert first["address"] != second["address"]
    assert project.json("artifact", "get", first["address"])["digest"] == first["digest"]
    assert project.json("artifact", "get", first["short"])["digest"] == first["digest"]


def test_a_pipeline_added_later_runs_for_what_exists(project):
    """Once, for the newest version; `--existing none` waits for the next push."""
    project.push(numbers="1 2 3\n")

    project("pipeline", "add", "mean-training", "--name", "now", "--input", "code=code://*", "--wait")
    project("pipeline", "add", "mean-training", "--name", "later", "--input", "code=code://*", "--existing", "none")

    assert [run["name"] for run in project.json("run", "list")] == ["now/1"]


def test_a_paused_pipeline_does_not_run_and_says_why(project):
    """The push tells which pipelines looked at it; after resume the next push runs."""
    project.add_pipelines(serve=False)
    project("pipeline", "pause", "training-pipeline")
    pushed = project.push(numbers="1 2 3\n")
    project("pipeline", "resume", "training-pipeline")

    assert project.json("run", "list") == []
    assert "paused" in pushed.out + pushed.err or "training-pipeline" not in pushed.out
    project.push(numbers="4\n")
    assert len(project.json("run", "list")) == 1


def test_r20_r111_components_are_coupled_by_the_types_they_declare(project):
    """Neither template says which output goes where; a dataset of another type starts nothing."""
    project.add_pipelines(serve=False)
    project("pipeline", "add", "mean-serving", "--name", "serving-pipeline", "--input", "model=model://*")
    project.push(numbers="1 2 3\n")

    steps = project.run("training-pipeline/1")["steps"]
    made = {output["value"] for output in steps["collect"]["outputs"]}
    taken = {item["value"] for item in steps["fit"]["inputs"] if item["name"] == "numbers"}
    assert taken <= made
    assert taken


def test_r115_a_component_is_executed_alone_on_an_artifact_by_hand(project):
    """The averaging step, on a dataset that exists, without collecting anything."""
    project.add_pipelines(serve=False)
    project("pipeline", "add", "mean-of-data", "--name", "means", "--input", "numbers=dataset://*", "--existing", "none")
    project("pipeline", "pause", "means")
    project.push(numbers="1 2 3\n")
    (dataset,) = project.json("dataset", "list")

    run = project.json("run", "start", "means", "--input", f"numbers={dataset['address']}", "--wait")

    assert [step["name"] for step in run["steps"]] == ["fit"]
    assert run["state"] == "succeeded"


def test_r113_r116_a_run_is_followed_step_by_step(project):
    """While the first step works the second waits; both say so."""
    project("pipeline", "add", "mean-training", "--name", "slow", "--input", "code=code://*", "--param", "seconds=2")
    push = project.begin_push(numbers="1 2 3\n")

    def states() -> dict[str, str]:
        runs = project.json("run", "list")
        return {s["name"]: s["state"] for s in project.run("slow/1")["steps"].values()} if runs else {}

    project.fuseml.wait_for(lambda: states() == {"collect": "running", "fit": "waiting"}, 20, "the first step")
    assert "seconds left" in project("run", "logs", "slow/1", "--step", "collect").out
    output = push.communicate(timeout=60)[0]
    assert output.index("slow/1 collect: succeeded") < output.index("slow/1 fit: started")


def test_r118_what_finished_steps_made_is_used_when_a_failed_run_is_started_again(project):
    """The first step is reused, the failed one is executed again."""
    project.add_pipelines(serve=False)
    project.push(numbers="\n", code=1)  # there is no average of nothing

    again = project("run", "start", "training-pipeline", "--wait", code=1)

    steps = project.run("training-pipeline/2")["steps"]
    assert steps["collect"]["reused"]
    assert (steps["fit"]["reused"], steps["fit"]["state"]) == (False, "failed")
    assert "ZeroDivisionError" in again.err


def test_r173_a_project_has_codesets_and_attached_templates(project):
    """Both are counted and listed."""
    project.add_pipelines()
    project.push(numbers="1\n")

    found = project.fuseml.json("project", "get", project.name)
    assert (found["codesets"], found["pipelines"], found["services"]) == (1, 2, 1)
    assert {p["template"] for p in project.json("pipeline", "list")} == {"numbers/mean-training", "numbers/mean-serving"}
