"""Pipelines that take two kinds of artifacts, both by wildcard: they run when the later of the two arrives."""

from __future__ import annotations

import threading

import pytest

from fuseml_core.domain.errors import Invalid, NotFound
from fuseml_core.domain.records import NewVersion
from fuseml_core.engine.registration import new_change, register

TREE = {"MLproject": "m1", "train.py": "t1"}
BOTH = {"code": "code://*", "table": "dataset://*"}


@pytest.fixture
def shop(workshop):
    """A template `fit` that needs code and a table, and `maybe`, whose table need not be bound."""
    workshop.catalog.add_runnable({"name": "fit", "kind": "trainer", "inputs": [
        {"name": "code", "kind": "codeset"}, {"name": "table", "kind": "dataset", "types": ["csv"], "optional": True}],
        "outputs": [{"name": "model", "kind": "model"}]})
    for name, optional in (("fit", False), ("maybe", True)):
        workshop.catalog.add_template({
            "name": name, "inputs": {"code": {"kind": "codeset", "types": ["mlflow-project"]},
                                     "table": {"kind": "dataset", "types": ["csv"], "optional": optional}},
            "steps": {"fit": {"runnable": "fit", "inputs": {"code": "inputs.code", "table": "inputs.table"}}},
            "outputs": {"model": {"from": "fit.model"}}})
    workshop.agent.outcome = lambda workload: {"state": "succeeded"}
    return workshop


def table(tx, digit, name="table", type_="csv", change=""):
    """Register a data set."""
    new = NewVersion("dataset", "p", name, f"sha256:{digit * 64}", type=type_, location=f"file:///{digit}")
    return register(tx, new, change=change or new_change())


def give(shop, digit, name="table", type_="csv"):
    with shop.ledger.begin() as tx:
        return table(tx, digit, name, type_)


def bound(shop, pipeline="fit"):
    """The inputs of each run of a pipeline, oldest first: last letter of the code's and of the table's digest."""
    found = sorted((run for run in shop.runs.page("p") if run["pipeline"] == pipeline), key=lambda r: r["number"])
    inputs = [{i["name"]: i["address"][-1] for i in run["inputs"]} for run in found]
    return [(i["code"], i.get("table")) for i in inputs]


def told(shop, change):
    return [event["text"] for event in shop.runs.change(change, 0, 0)["events"]]


@pytest.mark.parametrize("first", ["code", "table"])
@pytest.mark.parametrize("template", ["fit", "maybe"])
def test_r90_r180_a_run_starts_when_the_later_of_two_inputs_arrives(shop, first, template):
    """Whichever comes first waits, and the feed says for what; an optional input that is bound is waited for too."""
    added = shop.pipelines.add("p", template, "fit", BOTH, {})
    assert (added["started"], added["decisions"]) == ([], [])
    arrivals = {"code": lambda: shop.push("app", TREE, "a"), "table": lambda: give(shop, "1")}
    second = "table" if first == "code" else "code"

    early = arrivals[first]()
    assert [d.decision for d in early.decisions] == ["suppressed"]
    waits = f"waits for the input {second}: nothing matches {BOTH[second]} yet"
    assert told(shop, early.change)[-1] == f"fit does not run for {early.version.short}: {waits}"
    late = arrivals[second]()

    assert [(d.decision, d.run) for d in late.decisions] == [("fired", "fit/1")]
    assert bound(shop) == [("a", "1")]


def test_each_new_version_runs_with_the_newest_of_the_other(shop):
    """Code after code, table after table, tables of several names, and one of another type that does not count."""
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    shop.push("app", TREE, "a")
    give(shop, "1")
    shop.push("app", {**TREE, "train.py": "t2"}, "b")
    give(shop, "2")
    give(shop, "3", "other")
    refused = give(shop, "4", "picture", "png")
    shop.push("app", {**TREE, "train.py": "t3"}, "c")

    assert bound(shop) == [("a", "1"), ("b", "1"), ("b", "2"), ("b", "3"), ("c", "3")]
    assert "its type is png" in refused.decisions[0].reason


def test_a_pipeline_that_is_added_when_both_are_there_runs_once(shop):
    """Both triggers match; the second one finds the run of the first."""
    shop.push("app", TREE, "a")
    give(shop, "1")

    added = shop.pipelines.add("p", "fit", "fit", BOTH, {})

    assert added["started"] == ["fit/1"]
    assert sorted(d["decision"] for d in added["decisions"]) == ["fired", "suppressed"]
    assert bound(shop) == [("a", "1")]


def test_a_pipeline_that_is_added_between_the_two_waits(shop):
    """`pipeline add` says what is missing, and the missing one starts the run."""
    shop.push("app", TREE, "a")

    added = shop.pipelines.add("p", "fit", "fit", BOTH, {})
    assert "waits for the input table" in added["decisions"][0]["reason"]
    give(shop, "1")

    assert bound(shop) == [("a", "1")]


def test_both_registered_in_one_transaction_make_one_run(shop):
    """One step may put out several artifacts that all fit: one run key, one run."""
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    change = new_change()
    with shop.ledger.begin() as tx:
        code = NewVersion("codeset", "p", "app", "git:" + "a" * 40, type="mlflow-project", location="x")
        register(tx, code, change=change)
        decided = table(tx, "1", change=change)

    assert [d.decision for d in decided.decisions] == ["fired"]
    assert bound(shop) == [("a", "1")]


def test_two_that_arrive_at_the_same_time_meet(shop):
    """Neither transaction sees what the other has not committed yet; the run must not be lost between them."""
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    registered, pushed = threading.Event(), []

    def push():
        registered.wait(10)
        pushed.append(shop.push("app", TREE, "a"))

    pusher = threading.Thread(target=push)
    pusher.start()
    with shop.ledger.begin() as tx:
        table(tx, "1")
        registered.set()
        pusher.join(0.5)  # it waits for this transaction, or it has decided without the table
    pusher.join(20)

    assert [d.decision for d in pushed[0].decisions] == ["fired"]
    assert bound(shop) == [("a", "1")]


def test_many_at_once_lose_no_run_and_start_none_twice(shop):
    """Code and tables from several threads: every version starts exactly one run unless it waited."""
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    threads = [threading.Thread(target=shop.push, args=("app", {**TREE, "train.py": c}, c)) for c in "abcd"]
    threads += [threading.Thread(target=give, args=(shop, digit, f"table{digit}")) for digit in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    runs = bound(shop)
    assert len(runs) == len(set(runs))
    with shop.ledger.read() as tx:
        decisions = tx.pipelines.decisions()
    waited = [d for d in decisions if d.decision == "suppressed" and "waits for" in d.reason]
    assert len(decisions) == 8
    assert len(runs) == 8 - len(waited)
    assert len({d.address.partition("://")[0] for d in waited}) == 1


def test_an_input_bound_to_one_version_must_exist(shop, raises_fuseml):
    """Refused when the pipeline is added, although the other input is a wildcard that nothing matches yet."""
    fixed = f"dataset://p/table@sha256:{'1' * 64}"
    with raises_fuseml(NotFound, "no dataset 'table'"):
        shop.pipelines.add("p", "fit", "fit", {"code": "code://*", "table": fixed}, {})
    assert shop.pipelines.all("p") == []

    give(shop, "1")
    give(shop, "2")
    shop.pipelines.add("p", "fit", "fit", {"code": "code://*", "table": fixed}, {})
    shop.push("app", TREE, "a")
    assert bound(shop) == [("a", "1")]


def test_an_alias_among_the_other_input_stands_for_the_version_that_carries_it(shop):
    """`dataset://table:clean` binds the version with the alias, not the newest one."""
    shop.pipelines.add("p", "fit", "fit", {"code": "code://*", "table": "dataset://table:clean"}, {})
    with shop.ledger.begin() as tx:
        new = NewVersion("dataset", "p", "table", f"sha256:{'1' * 64}", type="csv", location="x", aliases=("clean",))
        register(tx, new, change=new_change())
    give(shop, "2")

    shop.push("app", TREE, "a")

    assert bound(shop) == [("a", "1")]


def test_other_projects_do_not_count(shop):
    """A wildcard means the pipeline's own project."""
    shop.projects.create("q")
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    shop.push("app", TREE, "a", project="q")
    give(shop, "1")

    assert bound(shop) == []


def test_a_branch_among_the_other_input_stands_for_its_tip(shop):
    """`code://*?branch=dev` binds the tip of that branch, whatever the default branch has."""
    shop.pipelines.add("p", "fit", "fit", {"code": "code://*?branch=dev", "table": "dataset://*"}, {})
    shop.push("app", TREE, "a", branch="dev")
    shop.push("app", {**TREE, "train.py": "t2"}, "b")

    give(shop, "1")

    assert bound(shop) == [("a", "1")]


def test_r108_by_hand_an_optional_input_that_nothing_matches_is_left_out(shop):
    """Only triggers wait for it; a person who starts a run does not."""
    shop.pipelines.add("p", "maybe", "maybe", BOTH, {})
    shop.push("app", TREE, "a")
    assert bound(shop, "maybe") == []

    shop.manual.start("p", "maybe", {}, {})

    assert bound(shop, "maybe") == [("a", None)]


def test_the_same_output_again_starts_nothing_and_the_feed_says_so(shop):
    """G1: a version meets each trigger once."""
    shop.pipelines.add("p", "fit", "fit", BOTH, {})
    shop.push("app", TREE, "a")
    give(shop, "1")

    change = new_change()
    with shop.ledger.begin() as tx:
        new = NewVersion("dataset", "p", "table", f"sha256:{'1' * 64}", type="csv", location="file:///1")
        again = register(tx, new, change=change, producer=("prepare/2", "prepare"))

    assert not again.new
    assert told(shop, change) == [f"{again.version.short} came out again, so nothing follows from it"]
    assert bound(shop) == [("a", "1")]


def test_r100_a_data_set_is_given_where_the_program_takes_a_path(workshop, raises_fuseml):
    """`--param data=dataset://…` is an input of the run; the program gets its path in that parameter."""
    trainer = {"kind": "trainer", "name": "trainer", "command": ["train"], "inputs": [
        {"name": "code", "kind": "codeset"}, {"name": "data", "kind": "dataset", "optional": True}],
        "parameters": [{"name": "data", "type": "path", "required": False}, {"name": "alpha", "type": "float", "default": 1}],
        "outputs": [{"name": "model", "kind": "model"}]}
    workshop.catalog.add_runnable(trainer)
    workshop.catalog.add_template({
        "name": "fit", "open_parameters": True, "inputs": {
            "code": {"kind": "codeset"}, "table": {"kind": "dataset", "optional": True}},
        "steps": {"fit": {"runnable": "trainer", "open_parameters": True,
                          "inputs": {"code": "inputs.code", "data": "inputs.table"}}}})
    workshop.agent.outcome = lambda workload: {"state": "succeeded"}
    for digit in "12":
        give(workshop, digit)
    workshop.pipelines.add("p", "fit", "fit", {"code": "code://*"}, {"data": "dataset://*"})
    workshop.push("app", TREE, "a")
    workshop.manual.start("p", "fit", {}, {"data": "dataset://table@v1"})
    workshop.manual.start("p", "fit", {}, {"data": "https://example.org/t.csv"})
    wrong = workshop.manual.start("p", "fit", {}, {"alpha": "dataset://table"})
    workshop.turn(3)

    assert [found[1] for found in bound(workshop)] == ["2", "1", "2", "2"]
    assert [w.parameters["data"] for w in workshop.agent.submitted] == ["{input.data}", "{input.data}",
                                                                        "https://example.org/t.csv"]
    assert "alpha is of type float and cannot be given a data set" in workshop.runs.view(wrong)["error"]
    with raises_fuseml(Invalid, "no input of the template ext/fit is left"):
        workshop.manual.start("p", "fit", {"table": "dataset://table"}, {"data": "dataset://table"})
    with raises_fuseml(NotFound, "no dataset 'tables'"):
        workshop.manual.start("p", "fit", {}, {"data": "dataset://tables"})
