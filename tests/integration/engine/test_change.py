"""From a push to a served model, and what a second push does."""

from __future__ import annotations

from fuseml_core.domain.errors import Conflict, Invalid
from fuseml_core.domain.extensions import Rest
from fuseml_core.domain.records import NewVersion
from fuseml_core.engine.creation import RunMode
from fuseml_core.engine.registration import new_change, register
from fuseml_sdk.errors import InvalidInput

TREE = {"MLproject": "m1", "train.py": "t1", "README.md": "r1"}


def states(run):
    return {s["name"]: (s["state"], s["reused"]) for s in run["steps"]}


def add_both(shop):
    shop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    shop.pipelines.add("p", "serving", "serving-pipeline", {"model": "model://*"}, {})


def test_r180_r181_a_push_runs_every_pipeline_that_follows_from_it(workshop):
    """A push trains, and the model that comes out is served, without anybody asking."""
    add_both(workshop)

    registered = workshop.push("app", TREE, "a")
    workshop.turn(6)

    change = workshop.runs.change(registered.change, 0, 0)
    assert [(r["name"], r["state"]) for r in change["runs"]] == [
        ("training-pipeline/1", "succeeded"), ("serving-pipeline/1", "succeeded")], change
    assert change["state"] == "settled"
    assert workshop.gateway.tables[-1]["p/app"]["endpoint"] == "unix:/tmp/x.sock"


def test_r183_r185_results_of_the_current_code_show_addresses_and_defaults(workshop):
    """The table has the training run, below it the serving run, short addresses and `(default)`."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    items = workshop.runs.results("p", current_code=True, recursive=True)

    assert [i["run"] for i in items] == ["training-pipeline/1", "serving-pipeline/1"]
    assert items[0]["inputs"][0]["short"] == "code://p/app/aaaaaaa"
    assert items[1]["inputs"][1] == {"name": "predictor", "value": "sklearn", "short": "sklearn", "default": True}
    assert items[1]["outputs"] == [{"name": "url", "value": "http://test/p/app/predict", "short": "http://test/p/app/predict"}]


def test_r80_r83_a_push_that_touches_only_the_readme_reuses_build_and_model(workshop):
    """The change filters of both steps leave README.md out, so nothing is executed, and the run says why."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)
    before = len(workshop.agent.submitted)

    workshop.push("app", {**TREE, "README.md": "r2"}, "b")
    workshop.turn(4)

    run = workshop.runs.get("p", "training-pipeline", 2)
    assert states(run) == {"build": ("succeeded", True), "train": ("succeeded", True)}
    assert run["steps"][0]["why"].startswith("reused from training-pipeline/1")
    assert len(workshop.agent.submitted) == before


def test_r183_going_back_to_earlier_code_serves_its_model_again(workshop):
    """The model is taken as it is, becomes the latest of its name, and is served in place of the newer one."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)
    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(6)
    first, second = (workshop.runs.get("p", "training-pipeline", n)["outputs"][0]["value"] for n in (1, 2))
    assert workshop.services.get("p", "app")["model"] == second

    back = workshop.push("app", {**TREE, "README.md": "r2"}, "c")
    workshop.turn(6)

    change = workshop.runs.change(back.change, 0, 0)
    assert [r["name"] for r in change["runs"]] == ["training-pipeline/3", "serving-pipeline/3"]
    assert workshop.services.get("p", "app")["model"] == first
    again = workshop.runs.results("p", current_code=True, recursive=True)
    assert [i["run"] for i in again][-1] == "serving-pipeline/3"


def test_r113_pipelines_that_feed_each_other_come_to_rest(workshop):
    """A version comes back at most once in a change, whatever follows from it."""
    ping = {"kind": "transformer", "inputs": [{"name": "given", "kind": "model"}], "outputs": [{"name": "made", "kind": "dataset"}]}
    pong = {"kind": "transformer", "inputs": [{"name": "given", "kind": "dataset"}], "outputs": [{"name": "made", "kind": "model"}]}
    for name, descriptor, kind in (("ping", ping, "model"), ("pong", pong, "dataset")):
        workshop.catalog.add_runnable({"name": name, **descriptor})
        workshop.catalog.add_template({"name": name, "inputs": {"given": {"kind": kind}},
                                       "steps": {"do": {"runnable": name, "inputs": {"given": "inputs.given"}}},
                                       "outputs": {"made": {"from": "do.made", "name": "thing"}}})
    flip = {"1": "2", "2": "1"}

    def bounce(workload):
        given = workload.inputs[0].digest.partition(":")[2][:1]
        made = given if workload.runnable.name == "ping" else flip[given]
        kind = workload.runnable.outputs[0].kind
        return {"state": "succeeded", "outputs": [{"name": "made", "kind": kind, "location": {"uri": f"file:///w/{made}"}}]}

    workshop.agent.outcome = bounce
    workshop.pipelines.add("p", "ping", "ping", {"given": "model://*"}, {})
    workshop.pipelines.add("p", "pong", "pong", {"given": "dataset://*"}, {})
    with workshop.ledger.begin() as tx:
        seed = NewVersion("model", "p", "thing", f"sha256:{'1'.ljust(64, '0')}")
        started = register(tx, seed, change=new_change(), producer=None)
    workshop.turn(20)

    assert workshop.runs.change(started.change, 0, 0)["state"] == "settled"


def test_r107_a_change_of_code_trains_again_and_says_what_changed(workshop):
    """Only the file that changed is named; the build step is reused."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    workshop.push("app", {**TREE, "train.py": "t2"}, "b")
    workshop.turn(6)

    run = workshop.runs.get("p", "training-pipeline", 2)
    assert states(run) == {"build": ("succeeded", True), "train": ("succeeded", False)}
    assert run["steps"][1]["why"] == "code changed (train.py)"
    assert workshop.runs.get("p", "serving-pipeline", 2)["state"] == "succeeded"


def test_r15_identical_content_makes_no_version_and_no_run(workshop):
    """Pushing the same commit again changes nothing."""
    add_both(workshop)
    first = workshop.push("app", TREE, "a")
    workshop.turn(6)

    again = workshop.push("app", TREE, "a")
    workshop.turn(2)

    assert (again.new, again.version.id) == (False, first.version.id)
    assert len(workshop.runs.page("p")) == 2


def test_r181_a_codeset_of_another_type_is_registered_and_the_reason_kept(workshop):
    """No pipeline runs, and the decision says what was missing."""
    add_both(workshop)

    registered = workshop.push("app", {"main.py": "x"}, "a")

    assert [d.decision for d in registered.decisions] == ["suppressed"]
    assert "no MLproject file in the root" in registered.decisions[0].reason


def test_r33_a_push_to_another_branch_waits_until_it_is_merged(workshop):
    """A wildcard follows the default branch; the same commit fires when main moves to it."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    aside = workshop.push("app", {**TREE, "train.py": "t2"}, "b", branch="dev")
    merged = workshop.push("app", {**TREE, "train.py": "t2"}, "b", branch="main")

    assert "branch dev" in aside.decisions[0].reason
    assert any(d.decision == "fired" for d in merged.decisions)


def test_r179_adding_after_pushing_fires_once_for_what_is_there(workshop):
    """`pipeline add` runs for the current version; the project `default` needs no creating."""
    workshop.codesets.create("default", "app")
    workshop.push("app", TREE, "a", project="default")

    added = workshop.pipelines.add("default", "training", "full-pipeline", {"code": "code://*"}, {})

    assert added["started"] == ["full-pipeline/1"]


def test_r108_a_run_started_by_hand_takes_other_parameters(workshop):
    """It runs although the same inputs ran before, and only what depends on the parameter is executed."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    run = workshop.manual.start("p", "training-pipeline", {}, {"alpha": "0.9"})
    workshop.turn(6)

    view = workshop.runs.view(run)
    assert states(view) == {"build": ("succeeded", True), "train": ("succeeded", False)}
    assert view["steps"][1]["why"] == "parameters changed: alpha"
    assert workshop.agent.submitted[-2].parameters == {"alpha": 0.9}


def test_r108_no_cache_executes_every_step(workshop):
    """`--no-cache` runs everything although results are known."""
    add_both(workshop)
    workshop.push("app", TREE, "a")
    workshop.turn(6)

    run = workshop.manual.start("p", "training-pipeline", {}, {}, RunMode(no_cache=True))
    workshop.turn(6)

    assert states(workshop.runs.view(run)) == {"build": ("succeeded", False), "train": ("succeeded", False)}


def test_r51_a_parameter_of_the_wrong_type_fails_its_step_with_one_sentence(workshop):
    """The trainer's parameters are known only when it is built, so its step says so."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {"alpha": "much"})

    workshop.push("app", TREE, "a")
    workshop.turn(4)

    run = workshop.runs.get("p", "training-pipeline", 1)
    assert run["state"] == "failed"
    assert run["error"] == "the step train failed: the parameter alpha must be a float, not 'much'"


def test_r113_bad_pipelines_are_refused_and_leave_nothing(workshop, raises_fuseml):
    """An unbound, an unknown and a mistyped input, and a second owner of a service."""
    with raises_fuseml(Invalid, "is not bound"):
        workshop.pipelines.add("p", "training", "t", {}, {})
    with raises_fuseml(Invalid, "has no input 'cod'"):
        workshop.pipelines.add("p", "training", "t", {"cod": "code://*"}, {})
    with raises_fuseml(Invalid, "takes a codeset"):
        workshop.pipelines.add("p", "training", "t", {"code": "model://*"}, {})
    workshop.pipelines.add("p", "serving", "first", {"model": "model://*"}, {})
    with raises_fuseml(Conflict, "serves model"):
        workshop.pipelines.add("p", "serving", "second", {"model": "model://*"}, {})

    assert [p["name"] for p in workshop.pipelines.all("p")] == ["first"]


def test_r113_an_input_given_by_the_address_of_one_version_runs_once(workshop):
    """A fixed input has no trigger: the pipeline runs when it is added, and by hand."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.push("app", TREE, "a")
    workshop.turn(4)
    model = workshop.runs.get("p", "training-pipeline", 1)["outputs"][0]

    added = workshop.pipelines.add("p", "serving", "fixed", {"model": model["value"]}, {})
    also = workshop.pipelines.add("p", "training", "short", {"code": "code://p/app/aaaaaaa"}, {"alpha": 0.7})

    assert (added["started"], also["started"]) == (["fixed/1"], ["short/1"])


def test_r83_the_reason_compares_with_the_last_run_of_the_same_code(workshop):
    """Another codeset's run in between is no predecessor."""
    workshop.pipelines.add("p", "training", "training-pipeline", {"code": "code://*"}, {})
    workshop.push("app", TREE, "a")
    workshop.turn(4)
    workshop.push("other", {**TREE, "own.py": "x"}, "b")
    workshop.turn(4)
    workshop.push("app", {**TREE, "train.py": "t2"}, "c")
    workshop.turn(4)

    whys = [workshop.runs.get("p", "training-pipeline", n)["steps"][1]["why"] for n in (2, 3)]
    assert whys == ["runs for the first time", "code changed (train.py)"]


def test_r181_a_builder_that_could_not_look_is_named_and_looks_again_at_the_next_push(workshop):
    """The push succeeds without a type; pushed again it is recognised, and what follows from that is told."""
    workshop.pipelines.add("p", "training", "training", {"code": "code://*"}, {})
    builder = workshop.components.known_builders[0][1]
    detect = builder.detect

    def refuse(_listing):
        raise InvalidInput("it is dark")

    builder.detect = refuse
    first = workshop.push("app", TREE, "1")
    assert (first.version.type, first.new, first.retyped) == (None, True, False)
    told, = first.version.metadata["detection_failures"]
    assert told == {"builder": "mlflow/mlflow", "error": "it is dark", "hint": "See: fuseml plugin logs mlflow/mlflow"}
    assert [d.decision for d in first.decisions] == ["suppressed"]

    builder.detect = detect
    again = workshop.push("app", TREE, "1")
    assert (again.version.type, again.new, again.retyped) == ("mlflow-project", False, True)
    assert "detection_failures" not in again.version.metadata
    assert [d.decision for d in again.decisions] == ["fired"]
    assert not workshop.push("app", TREE, "1").retyped


def test_r181_a_builder_that_rests_is_named_with_what_to_do(workshop):
    """Of a disabled extension nobody is asked; looking again, as enabling does, makes up for it."""
    workshop.components.known_builders, kept = [], workshop.components.known_builders
    workshop.components.resting = [("mlflow/mlflow", Rest("disabled", "it is disabled", "Enable it."))]
    pushed = workshop.push("app", TREE, "1")
    assert pushed.version.metadata["detection"] == "mlflow/mlflow could not look at it: it is disabled"
    workshop.components.known_builders, workshop.components.resting = kept, []
    workshop.codesets.redetect(unseen=True)
    assert workshop.codesets.get("p", "app")["type"] == "mlflow-project"
