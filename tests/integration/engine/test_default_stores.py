"""Each project chooses the store for its new models and datasets; what exists stays where it lies."""

from __future__ import annotations

import time

import pytest

from fuseml_core.domain.errors import Conflict, Failed, Invalid, NotFound, Unavailable
from fuseml_core.service.development import Developed, DevelopedComponent, Development
from fuseml_sdk.errors import NotReady
from fuseml_sdk.types import Location, StoreDescription

TREE = {"MLproject": "a", "conda.yaml": "b", "train.py": "c"}


@pytest.fixture
def shelf(workshop):
    """Another store for models, that tells where it lies."""
    store = type(workshop.store)()
    store.describe = lambda: StoreDescription(name="shelf", kinds=["model"], schemes=["file"], capabilities=["register"])
    store.locate = lambda ref, accepts: Location(uri=f"file:///shelf/{ref.digest[7:15]}")
    workshop.components.others["shelf/shelf"] = store
    return store


def _train(workshop, commit):
    workshop.push("app", {**TREE, "train.py": commit}, commit)
    workshop.turn(6)


def test_r132_new_models_go_to_the_chosen_store_and_are_fetched_where_they_lie(workshop, shelf):
    workshop.pipelines.add("p", "training", "training", {"code": "code://*"}, {})
    workshop.pipelines.add("p", "serving", "serving", {"model": "model://*"}, {})
    _train(workshop, "1")
    assert workshop.projects.set_store("p", "model", "shelf/shelf")["stores"] == {"model": "shelf/shelf"}
    _train(workshop, "2")
    with workshop.ledger.read() as tx:
        versions = {v.seq: v for v in tx.artifacts.page(kind="model", project="p")}
    assert [versions[n].store for n in (1, 2)] == ["", "shelf/shelf"]
    assert [request.kind for request in shelf.registered] == ["model"]
    assert "model" in [request.kind for request in workshop.store.registered]
    fetched = [w.inputs[0].location.uri for w in workshop.agent.submitted if w.kind == "service"]
    assert [uri.startswith("file:///shelf/") for uri in fetched] == [False, True]
    assert workshop.projects.set_store("p", "model", "")["stores"] == {}
    with workshop.ledger.read() as tx:
        assert tx.artifacts.kept_in("shelf/") == [("p", "model", 1)]
        assert tx.artifacts.kept_in("she%") == []
    _train(workshop, "3")
    assert len(shelf.registered) == 1


def test_a_store_that_has_gone_fails_the_step_and_says_so(workshop, shelf):
    workshop.pipelines.add("p", "training", "training", {"code": "code://*"}, {})
    workshop.projects.set_store("p", "model", "shelf/shelf")
    del workshop.components.others["shelf/shelf"]
    _train(workshop, "1")
    found = workshop.runs.get("p", "training", 1)
    assert found["state"] == "failed"
    assert "no artifact store 'shelf/shelf'" in found["steps"][-1]["message"]


def test_only_a_store_that_takes_the_kind_in_can_be_chosen(workshop, shelf):
    with pytest.raises(Invalid, match="does not take in artifacts of kind dataset"):
        workshop.projects.set_store("p", "dataset", "shelf/shelf")
    with pytest.raises(Invalid, match="every codeset lies in the server's own store"):
        workshop.projects.set_store("p", "codeset", "shelf/shelf")
    with pytest.raises(Unavailable, match="'pantry/pantry'"):
        workshop.projects.set_store("p", "model", "pantry/pantry")
    with pytest.raises(NotFound, match="no project"):
        workshop.projects.set_store("q", "model", "shelf/shelf")
    def away():
        raise NotReady("the disk is away", hint="Mount it.")

    shelf.describe = away
    with pytest.raises(Failed, match="does not work: the disk is away"):
        workshop.projects.set_store("p", "model", "shelf/shelf")
    assert workshop.projects.get("p")["stores"] == {}


class Known:
    """What the server knows of plugins under development."""

    def __init__(self) -> None:
        self.now: dict[str, Developed] = {}
        self.puts = 0
        self.alive: set[str] = set()

    def put(self, developed):
        self.now[developed.extension], self.puts = developed, self.puts + 1

    def drop(self, extension):
        self.now.pop(extension, None)

    def serves(self, developed):
        return developed.components[0].address in self.alive

    def installed(self, extension):
        return "0.0.9" if extension == "shelf" else ""


def _developed(**fields):
    component = DevelopedComponent("store", "shelf", fields.pop("address", "unix:/tmp/x.sock"))
    return Developed(**{"extension": "shelf", "version": "0.1.0", "components": (component,), **fields})


def test_a_lease_that_is_not_renewed_ends():
    known = Known()
    development = Development(known, lease=0.2)
    for _ in range(2):  # also after the last one has gone
        development.hold(_developed())
        end = time.monotonic() + 60
        while known.now and time.monotonic() < end:
            time.sleep(0.02)
        assert known.now == {}
    assert not development.release("shelf")


def test_a_lease_that_is_given_back_ends_at_once():
    known = Known()
    development = Development(known, lease=3600.0)
    development.hold(_developed())
    development.hold(_developed(extension="other"))
    assert development.release("shelf")
    assert set(known.now) == {"other"}
    assert development.release("other")


def test_components_are_replaced_only_when_something_is_new():
    known = Known()
    development = Development(known)
    for start in (1, 1, 1, 2, 2):
        development.hold(_developed(start=start))
    assert known.puts == 2


def test_what_somebody_develops_is_not_taken_over_while_that_goes_on():
    known = Known()
    development = Development(known)
    assert development.hold(_developed())["installed"] == "0.0.9"
    assert development.hold(_developed(extension="other"))["installed"] == ""
    known.alive = {"unix:/tmp/x.sock"}
    with pytest.raises(Conflict, match=r"shelf is under development already: .* serves it at unix:/tmp/x\.sock"):
        development.hold(_developed(address="unix:/tmp/y.sock"))
    development.hold(_developed(start=2))
    assert known.now["shelf"].components[0].address == "unix:/tmp/x.sock"
    known.alive = set()
    development.hold(_developed(address="unix:/tmp/y.sock"))
    assert known.now["shelf"].components[0].address == "unix:/tmp/y.sock", "its author is gone, though the lease is not"


@pytest.mark.parametrize(("fields", "said"), [
    ({"address": "http://127.0.0.1:1"}, "not the address of a socket of this machine"),
    ({"extension": "../x"}, "not a name"), ({"version": "one"}, "not a semantic version"), ({"components": ()}, "no component")])
def test_what_cannot_be_developed_is_refused(fields, said):
    known = Known()
    with pytest.raises(Invalid, match=said):
        Development(known).hold(_developed(**fields))
    assert known.now == {}
