"""Files over the border of a confined component, and secrets that must not cross it (R133)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fuseml_core.host.folders import HostFolders
from fuseml_sdk import errors
from fuseml_sdk.types import ArtifactRef, Location, RegisterRequest, RunnableDescriptor, Workload, WorkloadInput

REF = ArtifactRef(kind="model", project="p", name="n")


@pytest.fixture
def keeper(host, component):
    def make(**config):
        made = component(plugin="keeping_extension:store", config=config)
        host.add(made)
        return host.store(made.id), made

    return make


@pytest.fixture
def output(tmp_path):
    """What a job put out, in a folder that no extension can reach."""
    folder = tmp_path / "work" / "my model"
    (folder / "data").mkdir(parents=True)
    (folder / "model").write_text("weights")
    (folder / "data" / "table").write_text("1,2")
    (tmp_path / "secret").write_text("canary")
    (folder / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "shared").write_text("shared")
    os.link(tmp_path / "shared", folder / "shared")
    return folder


def request(folder, **labels):
    return RegisterRequest(kind="model", project="p", name="n", source=Location(uri=folder.as_uri()), labels=labels)


def test_r133_a_store_takes_over_a_folder_that_it_could_not_reach(keeper, output, tmp_path):
    store, made = keeper(hand_out="")
    kept = store.register(request(output))
    assert kept.metadata["seen"] == ["data", "data/table", "link", "model", "shared"]
    assert not kept.metadata["source"].startswith(str(output.parent))
    assert (made.state_dir / "kept" / "model").read_text() == "weights changed"
    assert (tmp_path / "shared").read_text() == "shared", "a file with other names is copied"
    assert (made.state_dir / "kept" / "link").is_symlink()
    assert list(HostFolders(made.state_dir).incoming.iterdir()) == []


def test_r133_a_registration_can_be_repeated_after_it_failed(keeper, output):
    store, made = keeper(hand_out="")
    with pytest.raises(errors.NotReady):
        store.register(request(output, fail="1"))
    assert list(HostFolders(made.state_dir).incoming.iterdir()) == []
    assert store.register(request(output)).metadata["seen"]


def test_r133_an_agent_reads_copies_of_inputs_that_it_could_not_reach(host, component, output, tmp_path):
    made = component(family="agent", plugin="keeping_extension:reader")
    host.add(made)
    agent = host.agent(made.id)
    workload = Workload(
        name="w-1", runnable=RunnableDescriptor(name="r", kind="custom", command=["true"]),
        contents=Location(uri=(tmp_path / "shared").as_uri()),
        inputs=[WorkloadInput(name="model", kind="model", location=Location(uri=output.as_uri()))])
    read = ["table=1,2", "model=weights", "shared=shared", "shared=shared"]
    assert agent.submit(workload).log_tail == read
    assert agent.submit(workload).log_tail == read, "a second submission changes nothing"
    assert (output / "model").read_text() == "weights"
    assert (tmp_path / "shared").read_text() == "shared"
    copies = HostFolders(made.state_dir).workloads
    assert len(list(copies.iterdir())) == 1
    assert not agent.collect("../../../w-1")
    assert len(list(copies.iterdir())) == 1
    assert agent.collect("w-1")
    assert list(copies.iterdir()) == []


def test_r133_inputs_that_cannot_be_handed_over_leave_nothing_behind(host, component, tmp_path):
    made = component(family="agent", plugin="keeping_extension:reader")
    host.add(made)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.InvalidInput, match="neither a file nor a folder"):
        host.agent(made.id).submit(Workload(
            name="w-2", runnable=RunnableDescriptor(name="r", kind="custom", command=["true"]),
            contents=Location(uri=(tmp_path / "pipe").as_uri())))
    folders = HostFolders(made.state_dir)
    assert [*folders.workloads.iterdir(), *(folders.root / "making").iterdir()] == []


@pytest.mark.parametrize("uri", ["file:///etc/shadow", "file://localhost{tmp}/secret", "git+file://{tmp}/secret",
                                 "file://{tmp}/state-0/../secret", "file://{tmp}/%73ecret", "file://{tmp}/state-0/link"])
@pytest.mark.parametrize("hook", ["locate", "get"])
def test_r133_the_server_does_not_read_for_a_component_what_that_may_not_read(keeper, uri, hook, tmp_path):
    (tmp_path / "secret").write_text("canary")
    (tmp_path / "state-0").mkdir()
    (tmp_path / "state-0" / "link").symlink_to(tmp_path / "secret")
    store, _ = keeper(hand_out=uri.format(tmp=tmp_path))
    with pytest.raises(errors.Permanent, match="which is not its own"):
        store.locate(REF, ["file"]) if hook == "locate" else store.get(REF)


def test_r133_what_is_its_own_is_handed_out(keeper, tmp_path):
    mine = f"file://{tmp_path}/state-0/kept"
    assert keeper(hand_out=mine)[0].locate(REF, ["file"]).uri == mine
    elsewhere = "https://example.org/model"
    assert keeper(hand_out=elsewhere)[0].locate(REF, ["file"]).uri == elsewhere


def test_r133_a_secret_setting_is_nowhere_but_in_the_plugin(host, component, tmp_path):
    canary = "canary-7f3a9"
    made = component(family="agent", config={"token": canary})
    host.add(made)
    agent = host.agent(made.id)
    agent.describe()
    info, = host.components()
    for name in ("cmdline", "environ", "status"):
        assert canary.encode() not in Path(f"/proc/{info.pid}/{name}").read_bytes()
    assert not [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if canary.encode() in _bytes(entry)]
    with pytest.raises(errors.PluginError) as caught:
        agent.status(["raise-permanent"])
    with pytest.raises(errors.PluginError) as defect:
        agent.status(["defect"])
    os.kill(info.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not (crashed := host.components()[0]).crashes:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = [repr(crashed), crashed.last_crash, repr(host.statistics()), host.metrics_text(), repr(list(host.trace()))]
    for error in (caught.value, defect.value):
        told += [repr(error), str(error), repr(error.details), *getattr(error, "__notes__", [])]
    assert canary not in "".join(told)
    files = [path for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert files
    assert canary not in "".join(path.read_text() for path in files)
    beside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert canary.encode() not in b"".join(map(_bytes, beside)), "the configuration is never on the disk"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
