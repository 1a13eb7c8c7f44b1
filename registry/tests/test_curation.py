"""Curating a catalog in a folder: what is checked, who decides, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fuseml_oci.bundles import build
from fuseml_oci.bundles import push as push_bundle
from fuseml_oci.catalog.format import API_VERSION, Submission, moment
from fuseml_oci.catalog.publish import published
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import generate
from fuseml_oci.signing.sign import sign
from fuseml_registry.curation import Desk, Laboratory, Mirror, Surroundings, mirrored, submit
from fuseml_registry.curation.likeness import lookalikes
from fuseml_registry.curation.submissions import submit as push_submission
from fuseml_sdk.environments import IndexSettings
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

CURATOR, ANA = generate(), generate()
MANIFEST = """\
name = "{name}"
version = "{version}"
summary = "{name}, made for a test."
licence = "Apache-2.0"
{more}
"""


class World:
    """A registry, a catalog folder, its curator, and a clock."""

    def __init__(self, host: str, folder: Path, number: int) -> None:
        self.host, self.folder, self.space = host, folder, f"w{number}"
        self.clock = datetime(2026, 11, 23, tzinfo=UTC)
        self.said: list[str] = []
        laboratory = Laboratory(folder / "envs", IndexSettings(offline=True), seconds=20)
        self.around = Surroundings(lambda reference: RegistryClient(reference.registry), folder / "content",
                                   laboratory, self.said.append, lambda: self.clock)
        self.place = f"oci://{host}/{self.space}/catalog"
        self.desk = Desk.create(folder / "shop", "Cora", self.around, name="shop", reference=self.place,
                                namespaces=["tools"])
        self.desk.owner("tools", "Ana", [ANA.public])

    def source(self, name: str, version: str, more: str = "", files: dict[str, str] | None = None) -> Path:
        folder = self.folder / "sources" / f"{name}-{version}"
        contents = {"files/run.py": "print(1)\n", "runnables/run.json": json.dumps({
            "name": f"run-{name}", "kind": "trainer", "description": "Prints.",
            "command": ["{python}", "{runnable}/files/run.py"]}), **(files or {})}
        contents["extension.toml"] = MANIFEST.format(name=name, version=version, more=more)
        for path, text in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return folder

    def bundle(self, name: str, version: str = "1.0.0", more: str = "", files: dict[str, str] | None = None,
               key=ANA) -> Reference:
        place = Reference(self.host, f"{self.space}/ana/{name}")
        with RegistryClient(self.host) as client:
            pushed = push_bundle(build(self.source(name, version, more, files)), place, client)
            if key:
                sign(client, pushed, key)
        return pushed

    def sign(self, key=CURATOR):
        return lambda reference: sign(RegistryClient(reference.registry), reference, key)

    def submit(self, reference: Reference, key=ANA, **more) -> str:
        wanted = {"namespace": "tools", "channel": "edge", "message": "please", **more}
        return submit(reference, "Ana", self.around, catalog=parse(self.place), sign=self.sign(key) if key else None,
                      **wanted)["id"]


@pytest.fixture(scope="module")
def numbers():
    return iter(range(1000))


@pytest.fixture
def world(server, tmp_path, numbers) -> World:
    return World(server.host, tmp_path, next(numbers))


def outcomes(done) -> dict[str, str]:
    return {check["name"]: check["outcome"] for check in done["checks"]}


def texts(done) -> str:
    return "\n".join(check["text"] for check in done["checks"])


def test_a_submission_goes_from_the_author_to_the_published_catalog(world):
    id_ = world.submit(world.bundle("adder"))
    assert [entry["state"] for entry in world.desk.pending()] == ["pending"]
    seen = world.desk.review(id_)
    assert outcomes(seen) == {"identity": "passed", "namespace": "passed", "names": "passed", "signatures": "passed",
                              "permissions": "passed", "dependencies": "passed", "lint": "warned",
                              "secrets": "passed", "tests": "skipped"}
    assert world.desk.packages() == []  # looking changes nothing
    world.desk.decide(id_, "accept", why="useful", channel="candidate")
    assert world.desk.pending() == []
    assert world.desk.packages()[0]["channels"] == {"stable": "", "candidate": "1.0.0", "edge": "1.0.0"}
    assert world.desk.packages()[0]["signers"] == [ANA.fingerprint]
    done = world.desk.publish(world.sign())
    with RegistryClient(world.host) as client:
        catalog = published(client, f"{world.space}/catalog")
    (decision,) = catalog.history(catalog.package("adder")).decisions
    assert (decision.action, decision.by, decision.why, decision.signer) == ("accepted", "Cora", "useful",
                                                                           ANA.fingerprint)
    assert {check.name for check in decision.checks} >= {"lint", "secrets", "permissions"}
    assert catalog.package("adder").versions[0].published_by == "Ana"
    assert done["version"] == 1


def test_a_rejection_is_kept_with_its_reason(world):
    id_ = world.submit(world.bundle("adder"))
    with pytest.raises(InvalidInput, match="needs a reason"):
        world.desk.decide(id_, "reject")
    world.desk.decide(id_, "reject", why="there is one already")
    (entry,) = world.desk.pending(every=True)
    assert (entry["state"], entry["why"], entry["decided_by"]) == ("rejected", "there is one already", "Cora")
    with pytest.raises(InvalidInput, match="was rejected by Cora"):
        world.desk.decide(id_, "accept")
    world.desk.publish(world.sign())  # a history without its package is nobody's business
    assert world.desk.packages() == []


@pytest.mark.parametrize(("more", "files", "check"), [
    ('dependencies = [{name = "nowhere", range = ">=1"}]', {}, "dependencies"),
    ("", {"files/conf.py": "key = 'AKIAIOSFODNN7EXAMPLE'\n"}, "secrets"),
])
def test_what_fails_a_check_is_accepted_only_with_a_reason(world, more, files, check):
    reference = world.bundle("adder", more=more, files=files)
    with pytest.raises(InvalidInput, match=check):
        world.desk.add(reference, channel="stable")
    with pytest.raises(InvalidInput, match="--reason"):
        world.desk.add(reference, channel="stable", despite=True)
    done = world.desk.add(reference, channel="stable", despite=True, why="I know")
    assert outcomes(done)[check] == "failed"
    assert "AKIAIOSF" not in texts(done)
    history = world.desk.package("adder")["history"]
    assert [c["name"] for c in history[0]["checks"] if c["outcome"] == "failed"] == [check]


def test_a_stranger_cannot_submit_in_the_name_of_an_owner(world):
    for key in (None, generate()):
        seen = world.desk.review(world.submit(world.bundle("adder"), key))
        assert outcomes(seen)["namespace"] == "failed"
        assert outcomes(seen)["tests"] == "skipped"
    assert outcomes(world.desk.review(world.submit(world.bundle("adder"), namespace="other")))["namespace"] == "failed"


def test_a_package_cannot_be_taken_to_another_namespace_or_repository(world):
    world.desk.owner("rivals", "Rita", [(rita := generate()).public])
    world.desk.add(world.bundle("adder"), channel="stable", namespace="tools")
    place = Reference(world.host, f"{world.space}/rita/adder")
    with RegistryClient(world.host) as client:
        pushed = push_bundle(build(world.source("adder", "2.0.0")), place, client)
        sign(client, pushed, rita)
    seen = world.desk.review(world.submit(pushed, rita, namespace="rivals"))
    assert {"identity", "namespace", "signatures"} <= {n for n, o in outcomes(seen).items() if o == "failed"}
    assert "belongs to the namespace tools" in texts(seen)


def test_published_versions_never_change(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    with pytest.raises(InvalidInput, match="in the catalog already") as refused:
        world.desk.add(world.bundle("adder"), channel="stable")
    assert "promote it" in refused.value.hint


def test_a_name_made_to_be_mistaken_is_pointed_out(world):
    world.desk.add(world.bundle("mlflow"), channel="stable")
    seen = world.desk.review(world.submit(world.bundle("mlf1ow")))
    assert outcomes(seen)["names"] == "warned"
    assert "mistaken for mlflow" in texts(seen)


@pytest.mark.parametrize(("name", "other", "alike"), [
    ("mlflow", "m1flow", True), ("mlflow", "ml-flow", True), ("kserve", "kservc", True), ("kserve", "ksevre", True),
    ("tensorflow", "tensorfl0w", True), ("numbers", "numberss", True), ("adder", "badder", True), ("a", "b", False),
    ("mlflow", "kserve", False), ("numbers", "number-store", False), ("rnodel", "model", True)])
def test_which_names_look_alike(name, other, alike):
    assert bool(lookalikes(name, [other, name])) is alike
    assert bool(lookalikes(other, [name])) is alike


def test_new_permissions_are_shown(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    wants = 'permissions = [{name = "network", reason = "fetches"}]'
    seen = world.desk.review(world.submit(world.bundle("adder", "1.1.0", wants)))
    assert outcomes(seen)["permissions"] == "warned"
    assert "New since 1.0.0: network: fetches" in texts(seen)


def test_dependencies_must_be_offered_by_the_catalog(world):
    world.desk.add(world.bundle("base"), channel="stable")
    needs = 'dependencies = [{name = "base", range = ">=1,<2"}]'
    assert outcomes(world.desk.add(world.bundle("adder", more=needs), channel="stable"))["dependencies"] == "passed"
    world.desk.yank("base", "1.0.0", "broken")
    seen = world.desk.review(world.submit(world.bundle("adder", "1.0.1", needs)))
    assert outcomes(seen)["dependencies"] == "failed"


GOOD = "import unittest\n\n\nclass Test(unittest.TestCase):\n    def test_it(self):\n        {body}\n"


@pytest.mark.parametrize(("body", "outcome"), [
    ("self.assertTrue(True)", "passed"), ("self.fail('as it shall')", "failed"),
    ("import os; self.assertNotIn('SECRET_OF_CURATOR', os.environ)", "passed"),
    ("import os, time; os.fork() or time.sleep(60); time.sleep(60)", "failed"),
])
def test_the_bundles_own_tests_are_run_apart_and_for_a_limited_time(world, monkeypatch, body, outcome):
    monkeypatch.setenv("SECRET_OF_CURATOR", "x")
    world.around = replace(world.around, laboratory=replace(world.around.laboratory, seconds=3))
    desk = Desk(world.folder / "shop", "Cora", world.around)
    reference = world.bundle("adder", files={"files/tests/test_it.py": GOOD.format(body=body)})
    seen = desk.review(world.submit(reference))
    assert outcomes(seen)["tests"] == outcome
    world.clock += timedelta(seconds=1)
    unknown = desk.review(world.submit(reference, None))
    assert outcomes(unknown)["tests"] == "skipped"


def test_nothing_that_the_tests_start_outlives_them(world, tmp_path):
    """Not even a daemon: a child of a child in a session of its own."""
    pid = tmp_path / "pid"
    body = ("import os, pathlib, time\n        if not os.fork():\n            os.setsid()\n            if os.fork(): os._exit(0)\n"
            f"            pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60); os._exit(0)\n"
            f"        while not pathlib.Path({str(pid)!r}).exists(): time.sleep(0.01)\n        time.sleep(0.2)")
    desk = Desk(world.folder / "shop", "Cora", world.around)
    seen = desk.review(world.submit(world.bundle("adder", files={"files/tests/test_it.py": GOOD.format(body=body)})))
    assert outcomes(seen)["tests"] == "passed"
    assert not Path(f"/proc/{pid.read_text()}").exists()


def test_channels_yanks_deprecations_and_patches(world):
    desk = world.desk
    desk.add(world.bundle("adder"), channel="edge")
    desk.promote("adder", "1.0.0", "stable", "works")
    assert desk.packages()[0]["channels"]["stable"] == "1.0.0"
    assert desk.promote("adder", "1.0.0", "stable")["changed"] is False
    desk.demote("adder", "1.0.0", "stable")
    with pytest.raises(NotFound, match="not in the channel"):
        desk.demote("adder", "1.0.0", "stable")
    desk.yank("adder", "1.0.0", "loses numbers")
    with pytest.raises(InvalidInput, match="loses numbers"):
        desk.promote("adder", "1.0.0", "stable")
    desk.yank("adder", "1.0.0", "", undo=True)
    desk.deprecate("adder", "old", replacement="better")
    desk.deprecate("adder", "very old", replacement="better")
    assert [d["message"] for d in desk.package("adder")["deprecations"]] == ["very old"]
    desk.deprecate("adder", "", undo=True)
    desk.patch("adder", "1.0.0", {"requires_fuseml": ">=9", "dependencies": [{"name": "base", "range": ">=1"}]})
    desk.patch("adder", "", {"keywords": ["sum"], "summary": "Adds."})
    package = desk.package("adder")
    assert package["versions"][0]["patched"] == ["dependencies", "requires_fuseml"]
    assert (package["summary"], package["keywords"]) == ("Adds.", ["sum"])
    assert [d["action"] for d in package["history"]] == [
        "added", "promoted", "demoted", "yanked", "unyanked", "deprecated", "deprecated", "undeprecated", "patched",
        "patched"]
    for wrong in (("adder", "9.9.9", {"requires_fuseml": "*"}), ("nothing", "", {"summary": "x"})):
        with pytest.raises(NotFound):
            desk.patch(*wrong)
    for values in ({"digest": "sha256:0"}, {"requires_fuseml": "soon"}, {}):
        with pytest.raises(InvalidInput):
            desk.patch("adder", "1.0.0", values)


def test_two_curators_cannot_lose_each_others_work(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    world.desk.publish(world.sign())
    shutil.copytree(world.folder / "shop", world.folder / "clone")
    other = Desk(world.folder / "clone", "Dora", world.around)
    other.deprecate("adder", "old")
    other.publish(world.sign())
    world.desk.yank("adder", "1.0.0", "broken")
    with pytest.raises(InvalidInput, match=r"holds version 2 .* knows version 1"):
        world.desk.publish(world.sign())
    assert {change["text"] for change in world.desk.diff()["changes"]} == {
        "1.0.0 yanked: broken", "no longer deprecated: old"}


def test_a_publication_that_was_cut_off_is_finished(world, monkeypatch):
    from fuseml_registry.curation.workspace import Workspace

    world.desk.add(world.bundle("adder"), channel="stable")
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "save_published", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.desk.publish(world.sign())
    assert world.desk.publish(world.sign())["version"] == 2


def test_a_publication_is_renewed_before_it_expires(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    world.desk.publish(world.sign())
    world.clock += timedelta(days=20)
    assert world.desk.diff()["changes"] == []
    assert world.desk.publish(world.sign())["version"] == 2
    with RegistryClient(world.host) as client:
        assert published(client, f"{world.space}/catalog").root.expires == moment(world.clock + timedelta(days=30))


def test_a_lost_folder_is_made_again_from_what_is_published(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    world.desk.publish(world.sign())
    with pytest.raises(Permanent, match="not signed"):
        Desk.take_over(world.folder / "no", "Dora", world.around, parse(world.place), [generate().public])
    again = Desk.take_over(world.folder / "again", "Dora", world.around, parse(world.place), [CURATOR.public])
    assert again.package("adder") == world.desk.package("adder")
    assert again.namespaces() == world.desk.namespaces()
    assert again.publish(world.sign())["version"] == 2


MISTAKES = [
    ("packages/adder.json", '"summary"', '"sumary"', "there is no such field"),
    ("packages/adder.json", '"name": "adder"', '"name": "other"', "has the name of its package"),
    ("packages/adder.json", '"1.0.0"', '"1.0"', "version"), ("packages/adder.json", "{", "", "not JSON"),
    ("catalog.toml", "name =", "nam =", "nam"), ("catalog.toml", "valid_days = 30", "valid_days = 0", "valid_days"),
    ("catalog.toml", '/catalog"', '/catalog:latest"', "tag or digest"),
    ("namespaces.json", '"tools"', '"Tools"', "namespaces.0.name"),
    ("namespaces.json", '"tools"', '"utils"', "does not exist"),
]


def test_a_mistake_in_an_edited_file_is_named_and_nothing_is_published(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    for file, old, new, reason in MISTAKES:
        path = world.folder / "shop" / file
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(InvalidInput, match=reason):
            Desk(world.folder / "shop", "Cora", world.around).publish(world.sign())
        path.write_text(text)
    with RegistryClient(world.host) as client:
        assert published(client, f"{world.space}/catalog") is None


def test_what_people_put_beside_submissions_is_passed_over(world):
    reference = world.bundle("adder")
    world.submit(reference)
    place = parse(world.place)
    with RegistryClient(world.host) as client:
        data = client.get_manifest(reference.repository, reference.digest)[0]
        client.push_blob(f"{world.space}/catalog-submissions", b"{}", "sha256:" + "44136fa355b3678a1146ad16f7e8649e94"
                         "fb4fc21fe77e8310c060f61caaff8a", "text/plain")
        liar = Submission(api_version=API_VERSION, name="adder", version="9.9.9", reference=str(reference),
                          digest=f"sha256:{'0' * 64}", namespace="tools", by="Eve", at=moment(world.clock))
        push_submission(place, liar, client)
        honest_looking = liar.model_copy(update={"digest": reference.digest})
        lie = push_submission(place, honest_looking, client)
    assert data
    assert {entry["version"] for entry in world.desk.pending()} == {"1.0.0", "9.9.9"}  # the one with two digests is not
    seen = world.desk.review(lie.id)
    assert outcomes(seen)["identity"] == "failed"
    assert "says version 9.9.9, the bundle has 1.0.0" in texts(seen)
    with pytest.raises(NotFound, match="no submission"):
        world.desk.review("nothing")


def test_accepted_bundles_are_copied_with_their_signatures(world, tmp_path):
    bundles = f"oci://{world.host}/{world.space}/kept"
    desk = Desk.create(tmp_path / "keeper", "Cora", world.around, name="keeper", namespaces=["tools"], bundles=bundles,
                       reference=f"oci://{world.host}/{world.space}/keeper")
    desk.owner("tools", "Ana", [ANA.public])
    reference = world.bundle("adder")
    desk.add(reference, channel="stable")
    assert desk.package("adder")["repository"] == f"{bundles}/adder"
    with RegistryClient(world.host) as client:
        assert client.get_manifest(f"{world.space}/kept/adder", "1.0.0")[2] == reference.digest
        assert client.referrers(f"{world.space}/kept/adder", reference.digest)


def test_a_mirror_is_brought_up_to_date_and_never_overwrites(world):
    world.desk.add(world.bundle("adder"), channel="stable")
    world.desk.publish(world.sign())
    target = parse(f"oci://{world.host}/{world.space}/mirror/catalog")
    wanted = Mirror(parse(world.place), target, parse(f"oci://{world.host}/{world.space}/mirror"), [CURATOR.public])
    assert mirrored(wanted, world.around)["copied"] == 1
    assert mirrored(wanted, world.around) | {"reference": ""} == {
        "reference": "", "version": 1, "packages": 1, "copied": 0, "present": 1}
    with pytest.raises(Permanent, match="not signed by the given keys"):
        mirrored(replace(wanted, keys=[ANA.public]), world.around)
    with pytest.raises(NotFound, match="no package nothing"):
        mirrored(replace(wanted, only=["nothing"]), world.around)
    world.desk.add(world.bundle("adder", "1.1.0"), channel="stable")
    world.desk.publish(world.sign())
    with RegistryClient(world.host) as client:
        taken = push_bundle(build(world.source("adder", "1.1.0", 'description = "other"')),
                            Reference(world.host, f"{world.space}/mirror/adder"), client)
    assert taken
    with pytest.raises(InvalidInput, match="holds another bundle"):
        mirrored(wanted, world.around)
