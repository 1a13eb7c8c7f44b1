"""What a confined extension hands out leads nobody to what it may not read itself (R133)."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fuseml_core.host import Component
from fuseml_core.host.copies import copy_strange
from fuseml_core.host.folders import HostFolders
from fuseml_sdk import errors
from fuseml_sdk.contents import identify, scan
from fuseml_sdk.quickness import IN_A_ROW
from fuseml_sdk.types import ArtifactRef, Location, RegisterRequest, RunnableDescriptor, Workload, WorkloadInput

CANARY = "canary of the victim"
REF = ArtifactRef(kind="dataset", project="p", name="n")


@pytest.fixture
def victim(tmp_path):
    """The folder of another extension."""
    folder = tmp_path / "victim" / "set"
    folder.mkdir(parents=True)
    (folder / "data").write_text(CANARY)
    return folder


@pytest.fixture
def hostile(host, component, victim):
    def make(family, **config):
        made = component(family=family, plugin=f"handing_extension:{family}",
                         config={"target": str(victim), **config})
        host.add(made)
        return made

    return make


@pytest.fixture
def built_in(host, tmp_path, example_importable):
    """A component in the server's own process."""
    def make(family, plugin, **config):
        made = Component(id=f"built-in/{family}", extension="built-in", version="1", digest="", family=family, name="it",
                         plugin=plugin, hosting="in-process", config=config, state_dir=tmp_path / "built-in" / family)
        host.add(made)
        return made

    return make


@pytest.fixture
def files(built_in, host, tmp_path):
    incoming = HostFolders(tmp_path / "built-in" / "store").incoming
    return host.store(built_in("store", "fuseml_files.plugin:plugin", root=str(tmp_path / "artifacts"),
                               take_over=[str(incoming)]).id)


def given(location):
    return Workload(name="w", runnable=RunnableDescriptor(name="r", kind="custom", command=["true"]),
                    inputs=[WorkloadInput(name="set", kind="dataset", location=location)])


def request(status, **more):
    output, = status.outputs
    return RegisterRequest(kind="dataset", project="p", name="n", source=output.location, files=output.files or None,
                           **more)


def attempt(hook, *arguments):
    """What it gives, or the words in which it refuses."""
    try:
        return hook(*arguments)
    except errors.PluginError as error:
        return str(error)


@pytest.mark.parametrize("swap", ["folder", "parent", "file"])
def test_r133_an_extension_that_is_agent_and_store_gets_no_file_of_others(host, hostile, files, swap):
    """The whole way: its output becomes an artifact of the server's store, which becomes an input of its workload."""
    made = hostile("agent", swap=swap)
    agent = host.agent(made.id)
    status, = agent.status(["w"])
    host.call(made.id, "fuseml_health", {})
    refused = attempt(files.register, request(status))
    got = ""
    if not isinstance(refused, str):
        got = agent.submit(given(files.locate(REF.model_copy(update={"digest": refused.digest}), ["file"]))).log_tail
    assert CANARY not in str(got)
    assert isinstance(refused, str)
    assert "leads" in refused


@pytest.mark.parametrize("swap", ["folder", "parent", "file"])
@pytest.mark.parametrize("where", ["subprocess", "in-process"])
def test_r133_a_workload_reads_what_was_handed_out_and_no_more(host, hostile, built_in, swap, where):
    made = hostile("store", swap=swap)
    location = host.store(made.id).locate(REF, ["file"])
    host.call(made.id, "fuseml_health", {})
    reader = built_in("agent", "handing_extension:agent", target="") if where == "in-process" else hostile("agent")
    said = attempt(host.agent(reader.id).submit, given(location))
    assert "leads" in said
    assert [path for path in (HostFolders(reader.state_dir).root).rglob("*") if path.is_file()] == []


def test_r133_a_store_of_the_server_that_has_shown_to_be_quick_is_handed_copies_all_the_same(host, hostile, built_in):
    made = hostile("agent", plant="link")
    store = host.store(built_in("store", "handing_extension:store", target="").id)
    plain = RegisterRequest(kind="dataset", project="p", name="n", digest="sha256:" + "0" * 64)
    for _ in range(3 * IN_A_ROW):
        store.register(plain)
    assert "store_register" in host._entries["built-in/store"].lanes
    status, = host.agent(made.id).status(["w"])
    with pytest.raises(errors.InvalidInput, match="leads out"):
        store.register(request(status))


@pytest.mark.parametrize(("plant", "said"), [
    ("link", "leads out"), ("relative link", "leads out"), ("folder", "leads out"), ("chain", "leads out"),
    ("pipe", "named pipe"), ("deep", "folders within folders")])
def test_r133_a_data_set_is_refused_whole_when_something_in_it_is_not_its_own(host, hostile, built_in, plant, said):
    location = host.store(hostile("store", plant=plant).id).locate(REF, ["file"])
    reader = built_in("agent", "handing_extension:agent", target="")
    with pytest.raises(errors.InvalidInput, match=said):
        host.agent(reader.id).submit(given(location))
    assert [path for path in (HostFolders(reader.state_dir).root).rglob("*") if path.is_file()] == []


def test_r133_nobody_connects_to_a_socket_or_opens_a_device_while_copying(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(top / "s"))
        with pytest.raises(errors.InvalidInput, match="s is a socket"):
            copy_strange(top, tmp_path, tmp_path / "copy")
    with pytest.raises(errors.InvalidInput, match="null is a device"):
        copy_strange(Path("/dev/null"), Path("/dev"), tmp_path / "other")


def test_r133_a_folder_that_is_swapped_all_the_time_gives_what_is_in_it_or_nothing(tmp_path, victim):
    root = tmp_path / "root"
    (root / "set" / "sub").mkdir(parents=True)
    (root / "set" / "sub" / "data").write_text("harmless")
    link, done, outcomes = root / "link", threading.Event(), set()
    link.symlink_to(victim)

    def swap():
        places = itertools.cycle([root / "set" / "sub", root / "set", root / "set" / "sub" / "data"])
        while not done.is_set():
            place = next(places)
            place.rename(root / "aside")
            link.rename(place)
            place.rename(link)
            (root / "aside").rename(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(600):
            outcomes.add(_copied(root / "set", root, tmp_path / "copies" / str(number)))
    finally:
        done.set()
        swapping.join()
    assert outcomes <= {"harmless", "", "refused"}


def _copied(source, root, target):
    target.parent.mkdir(exist_ok=True)
    try:
        copy_strange(source, root, target)
    except (errors.InvalidInput, errors.Permanent, OSError):
        read = {path.read_text() for path in target.rglob("*") if path.is_file() and not path.is_symlink()}
        assert read <= {"harmless"}
        return "refused"
    return "".join(path.read_text() for path in target.rglob("data") if path.is_file())


def test_r133_a_second_name_of_a_file_of_somebody_else_is_not_copied(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "other").write_text(CANARY)
    os.link(tmp_path / "other", top / "mine")
    os.chown(top, 65534, 65534)
    with pytest.raises(errors.InvalidInput, match="of somebody else"):
        copy_strange(top, tmp_path, tmp_path / "copy")
    os.chown(top / "mine", 65534, 65534)
    copy_strange(top, tmp_path, tmp_path / "again")
    assert (tmp_path / "again" / "mine").stat().st_uid == 0


def test_r133_links_within_what_is_handed_out_go_on_working(host, hostile, built_in, files):
    made = hostile("store", plant="inside")
    location = host.store(made.id).locate(REF, ["file"])
    reader = host.agent(built_in("agent", "handing_extension:agent", target="").id)
    told = reader.submit(given(location)).log_tail
    assert sorted(told) == [f"{name}=harmless" for name in (
        "data", "more/absolute", "more/relative", "sub/absolute", "sub/relative")]
    copies = HostFolders(host.info("built-in/agent").component.state_dir).workloads
    link = next(copies.rglob("absolute"))
    assert link.resolve().is_relative_to(copies), "it leads to the copy"
    assert reader.collect("w")
    assert list(copies.iterdir()) == []


def test_r133_a_server_reads_no_objects_of_another_repository_for_an_extension(host, hostile, built_in, tmp_path, victim):
    subprocess.run(["git", "init", "--quiet", victim], check=True)
    made = hostile("store", scheme="git+file")
    location = host.store(made.id).locate(REF, ["git+file"])
    objects = Path(location.uri.removeprefix("git+file://")) / "objects" / "info"
    objects.mkdir(parents=True)
    (objects / "alternates").write_text(f"{victim}/.git/objects\n")
    reader = built_in("agent", "handing_extension:agent", target="")
    with pytest.raises(errors.InvalidInput, match="objects from another repository"):
        host.agent(reader.id).submit(given(location))


def test_r133_an_agent_gets_no_contents_by_telling_their_digest(host, hostile, files, victim):
    """The store has them already; the agent has only heard of their digests."""
    kept = files.register(RegisterRequest(kind="dataset", project="p", name="n", source=Location(uri=victim.as_uri())))
    claims = scan(victim)
    assert identify("dataset", claims).digest == kept.digest
    made = hostile("agent", claims=[entry.model_dump() for entry in claims],
                   text="x" * len(CANARY))
    status, = host.agent(made.id).status(["w"])
    assert files.register(request(status)).digest != kept.digest
    nowhere = status.outputs[0].location.model_copy(update={"uri": f"{status.outputs[0].location.uri}-missing"})
    with pytest.raises(errors.NotFound):
        files.register(request(status).model_copy(update={"source": nowhere}))


def test_r133_outputs_of_a_confined_agent_are_taken_over_by_one_copy(host, hostile, files, tmp_path):
    made = hostile("agent")
    status, = host.agent(made.id).status(["w"])
    kept = Path(files.register(request(status)).location.removeprefix("file://"))
    assert (kept / "data").read_text() == "harmless"
    assert (made.state_dir / "handed" / "set" / "data").exists(), "it stays, so that a registration can be repeated"
    assert (kept / "data").stat().st_nlink == 1
    assert list(HostFolders(tmp_path / "built-in" / "store").incoming.iterdir()) == []


def test_r133_a_store_is_told_the_digests_of_what_its_own_extension_made(host, hostile):
    agent = hostile("agent", claims=[{"path": "data", "size": 8, "digest": "sha256:" + "1" * 64}])
    status, = host.agent(agent.id).status(["w"])
    same = replace(hostile("store"), id="same", state_dir=agent.state_dir)
    host.add(same)
    for store, files in ((same, 1), (hostile("store"), 0)):
        assert host.store(store.id).register(request(status)).metadata == {"files": files}


@pytest.mark.parametrize("how", ["value", "endpoint"])
def test_r133_nor_is_it_led_there_by_other_words(host, hostile, victim, runtime_dir, how):
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(runtime_dir / "control.sock"))
        told = {"value": {"value": f"file://{victim}"}, "endpoint": {"endpoint": f"unix:{runtime_dir}/control.sock"}}
        with pytest.raises(errors.Permanent, match="which is not its own"):
            host.agent(hostile("agent", **told[how]).id).status(["w"])


def test_r133_what_is_checked_is_what_is_read_later(host, hostile):
    """An address by way of the working directory of the process, which the process can change at any moment."""
    made = hostile("store", at="/proc/{pid}/cwd")
    said = attempt(host.store(made.id).locate, REF, ["file"])
    assert getattr(said, "uri", said) == made.state_dir.as_uri()


def test_r133_what_somebody_else_runs_hands_out_no_file_of_the_server(host, hostile, component, victim, tmp_path):
    other = hostile("store").state_dir / "private"
    for number, (at, refused) in enumerate([(other, True), (victim, False)]):
        made = component("store", "address", plugin="handing_extension:store",
                         config={"at": str(at), "target": ""}, identifier=f"address-{number}")
        host.add(made)
        said = attempt(host.store(made.id).locate, REF, ["file"])
        assert ("which is the server's own" in str(said)) is refused
