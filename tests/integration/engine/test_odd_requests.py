"""Requests with numbers, texts and cursors that no client of ours sends: an answer, never a defect."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fuseml_core.api import problems
from fuseml_core.api.routers import artifacts, changes, pipelines, projects, runs
from fuseml_core.service.artifacts import Artifacts

TREE, JSON = {"MLproject": "a"}, {"content-type": "application/json"}


@pytest.fixture
def client(workshop):
    app = FastAPI()
    app.state.application = SimpleNamespace(
        projects=workshop.projects, codesets=workshop.codesets, artifacts=Artifacts(workshop.ledger),
        pipelines=workshop.pipelines, runs=workshop.runs, manual_runs=workshop.manual)
    problems.install(app)
    for router in (artifacts, changes, pipelines, projects, runs):
        app.include_router(router.router)
    workshop.pipelines.add("p", "training", "training", {"code": "code://*"}, {})
    workshop.push("app", TREE, "1")
    with TestClient(app, raise_server_exceptions=False) as found:
        yield found


@pytest.mark.parametrize("path", [
    "/projects/p/runs/training/99999999999999999999", "/projects/p/runs/training/2147483648",
    "/projects/%00", "/projects/p/runs?pipeline=%00", "/artifacts?name=%00", "/changes/x?after=99999999999999999999",
    "/changes/x?wait=nan", "/artifacts?cursor=nan:1", "/artifacts?cursor=1:99999999999999999999", "/artifacts?cursor=1",
    "/artifacts/resolve?address=code://p/app@v99999999999", "/artifacts?limit=99999999999999999999"])
def test_a_path_or_query_out_of_range_is_answered(client, path):
    assert client.get(path).status_code in (200, 400, 404)


@pytest.mark.parametrize("body", [
    '{"parameters": {"a": NaN}}', '{"parameters": {"a": [1]}}', '{"parameters": {"a": null}}',
    '{"parameters": {"\\ud800": {}}}', '{"inputs": {"code": "\\ud800"}}', '{"inputs": {"code": "code://p/[a"}}', "[]",
    "null", '"x"', '{"inputs": []}'])
def test_a_body_of_the_wrong_shape_is_refused(client, body):
    answer = client.post("/projects/p/pipelines/training/runs", content=body, headers=JSON)
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


def test_text_that_postgresql_refuses_is_kept_readable(client):
    answer = client.post("/projects/p/pipelines/training/runs", headers=JSON,
                         content='{"parameters": {"a": "a \\u0000"}}')
    assert answer.status_code == 201, answer.text
    assert client.get("/projects/p/runs").status_code == 200


@pytest.mark.parametrize("branch", ["", "-x", "a\x00b", "b" * 300])
def test_a_branch_that_cannot_be_one_is_refused(client, branch):
    answer = client.post("/projects/p/codesets/app/versions", json={"commit": "1" * 40, "branch": branch})
    assert answer.status_code == 400


def test_lines_of_a_change_become_visible_in_the_order_of_their_numbers(workshop):
    """G6: a reader who has seen a line never misses one with a smaller number that is committed later."""
    started = threading.Event()

    def second():
        started.set()
        with workshop.ledger.begin() as tx:
            tx.feed.add("c", "run", "second", now=2.0)

    thread = threading.Thread(target=second)
    with workshop.ledger.begin() as tx:
        tx.feed.add("c", "run", "first", now=1.0)
        thread.start()
        started.wait(5.0)
        thread.join(0.5)
        with workshop.ledger.read() as reader:
            assert reader.feed.after("c", 0) == []
    thread.join(10.0)
    with workshop.ledger.read() as reader:
        assert [line.text for line in reader.feed.after("c", 0)] == ["first", "second"]


def test_r165_runnables_are_listed_by_their_kind(client, workshop):
    """Those of extensions and those of projects alike; a kind that there is none of gives none."""
    agent = {"created_at": 5.0, "name": "lights/lamp", "type": "agent", "kind": "runnable"}
    store = {"created_at": 4.0, "name": "lights/shelf", "type": "store", "kind": "runnable"}
    client.app.state.application.artifacts = Artifacts(
        workshop.ledger, SimpleNamespace(list=lambda: [agent, store], find=lambda address, project: agent))

    def names(**query):
        return [item["name"] for item in client.get("/artifacts", params=query).json()["items"]]

    assert names(kind="runnable", type="agent") == ["lights/lamp"]
    assert {"lights/lamp", "lights/shelf"} <= set(names(kind="runnable"))
    assert names(kind="runnable", type="trainer") == []
    assert names(kind="codeset", type="") == ["app"]
    kind = client.get("/artifacts?kind=codeset").json()["items"][0]["type"]
    assert names(kind="codeset", type=kind or "") == ["app"]
    assert names(kind="codeset", type="none-such") == []


def test_r133_a_plugin_given_as_an_input_is_told_from_a_runnable(client):
    """Its address looks like that of a runnable; the answer says what it is, in both places where it may be given."""
    address = "runnable://fuseml/lights/lamp"
    for answer in (client.get("/artifacts/resolve", params={"address": address}),
                   client.post("/projects/p/pipelines", json={"template": "training", "name": "other",
                                                              "inputs": {"code": address}})):
        assert answer.status_code in (400, 404)
    found = client.get("/artifacts/resolve", params={"address": address}).json()
    assert "no runnable 'lights/lamp'" in found["detail"]
    assert "serves FuseML itself and is no input" in found["hint"]
