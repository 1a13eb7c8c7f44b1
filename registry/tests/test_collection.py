"""Garbage collection: what stays, what goes, and that no push loses anything."""

from __future__ import annotations

import os
import threading
import time

import pytest

from fuseml_oci.digests import digest_bytes
from fuseml_registry.collection.ownership import Ownership, ask
from fuseml_registry.collection.sweep import Collector
from fuseml_registry.configuration import Collection
from fuseml_registry.manifests import Manifests
from fuseml_registry.referrers import Referrers
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags
from fuseml_registry.uploads import Uploads
from fuseml_sdk.errors import Permanent, Retryable


@pytest.fixture
def running(serve, tmp_path):
    with serve(tmp_path / "registry") as server:
        yield server


@pytest.fixture
def repository(running, pusher):
    return pusher(running.url, "some/where")


def collect(root, **policy):
    """Collect as the command does, in a registry that nobody changes meanwhile."""
    dry_run = policy.pop("dry_run", False)
    storage = Storage(root)
    manifests = Manifests(storage, Tags(storage), Referrers(storage))
    return Collector(storage, manifests, Uploads(storage, 0.0), Collection(**policy)).collect(dry_run=dry_run)


def later(root, seconds=100 * 3600):
    """Let everything be older, as if time had passed."""
    for path in root.rglob("*"):
        state = path.stat()
        os.utime(path, (state.st_atime - seconds, state.st_mtime - seconds))


def contents(root):
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}


def test_what_a_tag_leads_to_stays(running, repository):
    image = repository.image("v1")
    index = repository.index("multi", repository.image(), repository.image())
    later(running.root)
    before = contents(running.root)
    report = collect(running.root, untagged="remove")
    assert report.removed == {"manifests": 0, "blobs": 0, "referrers": 0, "contents": 0, "uploads": 0}
    assert contents(running.root) == before
    assert repository.has(image)
    assert repository.has(index)
    assert report.stored == sum(p.stat().st_size for p in (running.root / "blobs").rglob("*") if p.is_file())


def test_blobs_that_no_manifest_names_go_when_they_are_old(running, repository):
    stray, image = repository.blob(b"stray"), repository.image("v1")
    assert collect(running.root).removed["blobs"] == 0, "a push may be going on"
    later(running.root)
    report = collect(running.root)
    assert (report.removed["blobs"], report.removed["contents"], report.freed) == (1, 1, 5)
    assert repository.http.head(f"{repository.url}/blobs/{stray['digest']}").status_code == 404
    assert repository.has(image)


def test_a_dry_run_says_what_would_go_and_changes_nothing(running, repository):
    repository.blob(b"stray")
    image = repository.image()
    later(running.root)
    before = contents(running.root)
    plan = collect(running.root, dry_run=True, untagged="remove")
    assert contents(running.root) == before
    assert f"some/where@{image['digest']}" in plan.items
    done = collect(running.root, untagged="remove")
    assert done.removed == plan.removed
    assert done.freed == plan.freed > 1000
    assert sorted(done.items) == sorted(plan.items)


@pytest.mark.parametrize("untagged", ["keep", "remove"])
def test_untagged_manifests_go_only_if_the_rule_says_so(running, repository, untagged):
    first, second = repository.image("latest"), repository.image("latest")
    later(running.root)
    collect(running.root, untagged=untagged)
    assert repository.has(second)
    assert repository.has(first) == (untagged == "keep")


def test_referrers_stay_with_their_subject_through_any_number_of_steps(running, repository):
    child = repository.image()
    index = repository.index("v1", child)
    signature = repository.referrer(index)
    about_signature = repository.referrer(signature)
    about_child = repository.referrer(child)
    lost = repository.referrer({"mediaType": child["mediaType"], "digest": digest_bytes(b"elsewhere"), "size": 1})
    later(running.root)
    collect(running.root, untagged="remove")
    assert all(repository.has(kept) for kept in (index, child, signature, about_signature, about_child, lost))


@pytest.mark.parametrize("rule", ["keep", "remove"])
@pytest.mark.parametrize("untagged", ["keep", "remove"])
def test_referrers_of_a_deleted_subject_go_or_stay_by_rule(running, repository, rule, untagged):
    subject = repository.image("v1")
    signature = repository.referrer(subject)
    second = repository.referrer(signature)
    legacy = repository.image(f"{subject['digest'].replace(':', '-')}.sig")
    named = repository.referrer(subject, "also-a-name")
    repository.delete(subject)
    collect(running.root, referrers=rule, untagged=untagged)
    assert repository.has(signature), "the age counts for them too"
    later(running.root)
    collect(running.root, referrers=rule, untagged=untagged)
    later(running.root)
    collect(running.root, referrers=rule, untagged=untagged)
    assert [repository.has(m) for m in (signature, second, legacy)] == [rule == "keep"] * 3
    assert repository.has(named), "it has a tag of its own"
    listed = repository.http.get(f"{repository.url}/referrers/{subject['digest']}").json()["manifests"]
    assert {d["digest"] for d in listed} == {named["digest"]} | ({signature["digest"]} if rule == "keep" else set())
    repository.delete(named)
    for _ in range(3):
        later(running.root)
        collect(running.root, referrers="remove")
    assert not [path for path in (running.root / "repositories").rglob("_deleted/*/*") if path.is_file()]


def test_a_subject_that_comes_back_has_its_referrers(running, repository):
    subject = repository.image("a", layer=b"same")
    signature = repository.referrer(subject)
    repository.delete(subject)
    later(running.root)
    assert repository.image("b", layer=b"same") == subject
    later(running.root)
    collect(running.root, untagged="remove")
    assert repository.has(signature)


def test_signatures_of_what_is_in_another_registry_stay(running, repository):
    elsewhere = digest_bytes(b"elsewhere").replace(":", "-")
    kept = [repository.image(f"{elsewhere}.sig"), repository.image(f"{elsewhere}.att"), repository.image(elsewhere)]
    later(running.root)
    collect(running.root, untagged="remove")
    assert all(repository.has(manifest) for manifest in kept)


def test_a_repository_with_a_damaged_manifest_is_left_alone(running, repository):
    image = repository.image("v1")
    stray = repository.blob(b"stray")
    algorithm, value = image["digest"].split(":")
    (running.root / "blobs" / algorithm / value[:2] / value).write_bytes(b"{")
    later(running.root)
    assert collect(running.root).removed["blobs"] == 0
    assert repository.http.head(f"{repository.url}/blobs/{stray['digest']}").status_code == 200


def test_contents_shared_by_repositories_stay_until_the_last_lets_go(running, repository, pusher):
    data = b"shared" * 100
    other = pusher(running.url, "other")
    mine, theirs = repository.image("a", layer=data), other.image("b", layer=data)
    repository.delete(mine)
    later(running.root)
    collect(running.root)
    assert other.has(theirs)
    other.delete(theirs)
    later(running.root)
    collect(running.root)
    assert digest_bytes(data)[7:] not in contents(running.root)


@pytest.mark.parametrize("look", ["HEAD", "mount", "push again", "manifest"])
def test_what_was_asked_for_a_moment_ago_is_not_collected(running, repository, pusher, look):
    """A client that hears that a blob is there sends no bytes; the manifest comes later."""
    data = os.urandom(500)
    if look == "manifest":
        image = repository.image(layer=data)
        later(running.root)
        assert repository.http.head(f"{repository.url}/manifests/{image['digest']}").status_code == 200
        collect(running.root, untagged="remove")
        assert repository.has(image)
        return
    digest = repository.blob(data)["digest"]
    later(running.root)
    target = pusher(running.url, "target") if look == "mount" else repository
    if look == "HEAD":
        assert repository.http.head(f"{repository.url}/blobs/{digest}").status_code == 200
    elif look == "mount":
        assert repository.http.post(f"{target.url}/blobs/uploads/?mount={digest}&from=some/where").status_code == 201
    else:
        repository.blob(data)
    collect(running.root)
    assert target.http.get(f"{target.url}/blobs/{digest}").content == data


def test_expired_uploads_go_too(running, repository):
    repository.http.post(f"{repository.url}/blobs/uploads/")
    later(running.root)
    assert collect(running.root, dry_run=True).removed["uploads"] == 1
    assert collect(running.root).removed["uploads"] == 1
    assert not list((running.root / "uploads").iterdir())


# Together with a server

def test_a_server_collects_when_a_command_asks_and_on_schedule(serve, tmp_path, pusher):
    with serve(tmp_path, lifespan="on", collection={"interval": "1s", "age": "1s"}, upload_expiry="1s") as running:
        repository = pusher(running.url, "a")
        image, stray = repository.image("v1"), repository.blob(b"stray")
        repository.http.post(f"{repository.url}/blobs/uploads/")
        assert not Ownership(tmp_path).take(), "the server holds the directory"
        with pytest.raises(Permanent, match="no work"):
            ask(tmp_path, {"work": "nonsense"}, 20)
        plan = ask(tmp_path, {"work": "collect", "dry_run": True, "policy": {"age": 0}}, 20)
        assert plan["removed"]["blobs"] == 1
        done = ask(tmp_path, {"work": "collect", "dry_run": False, "policy": {"age": 0}}, 20)
        assert done["removed"]["blobs"] == 1
        assert repository.http.head(f"{repository.url}/blobs/{stray['digest']}").status_code == 404
        deadline = time.monotonic() + 20
        while list((tmp_path / "uploads").iterdir()):
            assert time.monotonic() < deadline, "sessions go without any request"
            time.sleep(0.1)
        assert repository.has(image)
        assert 'collected_total{kind="blobs"} 1.0' in repository.http.get(f"http://{running.host}/metrics").text
    ownership = Ownership(tmp_path)
    assert ownership.take(10), "a stopped server lets go"
    ownership.release()
    assert not list((tmp_path / "requests").iterdir())


def test_a_command_does_not_wait_for_ever(tmp_path):
    with pytest.raises(Retryable, match="has not answered"):
        ask(tmp_path, {"work": "collect"}, 0.3)
    assert not list((tmp_path / "requests").iterdir())


#: Seconds of the collections below. A push that takes longer, because the machine is busy, may fail, as documented.
AGE = 1.0


def pushing(repository, stop, pushed, failed):
    """Push images, each time looking first what is there, as clients do; half of them share layers."""
    number = 0
    layers = [os.urandom(2000) for _ in range(3)]
    try:
        while not stop.is_set():
            number += 1
            tag, began = f"t{threading.get_ident()}-{number % 5}", time.monotonic()
            try:
                pushed[tag] = push_one(repository, tag, number, layers[number % 3] if number % 2 else os.urandom(2000))
            except AssertionError:
                if time.monotonic() - began < AGE:
                    raise
                pushed.pop(tag, None)
    except BaseException as error:
        failed.append(error)


def push_one(repository, tag, number, layer):
    digest = digest_bytes(layer)
    if repository.http.head(f"{repository.url}/blobs/{digest}").status_code != 200:
        repository.blob(layer)
    child = repository.image(layer=layer, annotations={"n": f"{tag} {number}"})
    index = repository.index(tag, child)
    return index["digest"], repository.referrer(index)["digest"]


def check_all(repository, pushed):
    for tag, (digest, signature) in pushed.items():
        answer = repository.http.get(f"{repository.url}/manifests/{tag}")
        assert answer.status_code == 200, tag
        assert repository.has(answer.headers["Docker-Content-Digest"])
        if answer.headers["Docker-Content-Digest"] == digest:
            assert repository.has(signature)


def test_r65_pushes_during_collection_lose_nothing(serve, tmp_path, pusher):
    """An age of a second, so that nearly everything is a candidate nearly always."""
    import requests

    config = {"collection": {"interval": 0, "age": "1s", "untagged": "remove"}}
    pushed, failed, stop = {}, [], threading.Event()
    with serve(tmp_path, lifespan="on", **config) as running:
        threads = []
        for _ in range(3):
            session = requests.Session()
            session.trust_env = False
            threads.append(threading.Thread(target=pushing, args=(pusher(running.url, "a"), stop, pushed, failed)))
            threads[-1]._args[0].http = session
        for thread in threads:
            thread.start()
        removed, end = 0, time.monotonic() + 4
        while time.monotonic() < end:
            removed += ask(tmp_path, {"work": "collect", "dry_run": False, "policy": {}}, 20)["removed"]["manifests"]
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not failed
        assert removed > 0, "otherwise this has tested nothing"
        check_all(pusher(running.url, "a"), pushed)


@pytest.mark.full
def test_r65_kill_9_during_collection_and_pushes_leaves_everything_whole(process, tmp_path, pusher):
    import requests

    pushed, collections = {}, 0
    for delay in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
        stop, failed = threading.Event(), []
        config = {"collection": {"interval": "0.1s", "age": "1s", "untagged": "remove"}}
        with process(tmp_path, config=config) as (running, url):
            repository = pusher(url, "a")
            thread = threading.Thread(target=pushing, args=(repository, stop, pushed, failed))
            thread.start()
            time.sleep(delay)
            collections += requests.get(f"{url}/_metrics", timeout=10).text.count('result="succeeded"')
            running.kill()
            running.wait(10)
            stop.set()
            thread.join(30)
        assert all(isinstance(error, requests.RequestException) for error in failed), failed
        with process(tmp_path, config={}) as (_, url):
            check_all(pusher(url, "a"), pushed)
    assert pushed
    assert collections > 3, "otherwise this has tested nothing"
