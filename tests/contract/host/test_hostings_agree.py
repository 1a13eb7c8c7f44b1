"""The same plugin gives equal results and equal errors wherever it runs: here, in its own process, at an address."""

from __future__ import annotations

import math

import pytest

from fuseml_core.host.in_process import STRICT_VARIABLE
from fuseml_sdk import errors
from fuseml_sdk.quickness import IN_A_ROW
from fuseml_sdk.types import (
    ArtifactRef,
    BuildRequest,
    DescriptorChange,
    FileEntry,
    FileListing,
    RegisterRequest,
    RunnableDescriptor,
    StoreQuery,
    Workload,
)

REF = ArtifactRef(kind="model", project="myproj", name="churn", digest="sha256:1")


@pytest.fixture(params=["in-process", "strict", "subprocess", "address",
                        pytest.param("asgi", marks=pytest.mark.full)])
def add(request, host, component, monkeypatch):
    """Adds an example component in each hosting and gives its id."""
    if request.param == "strict":
        monkeypatch.setenv(STRICT_VARIABLE, "1")
    hosting = "in-process" if request.param == "strict" else request.param

    def adding(family, **more):
        made = component(family, hosting, **more)
        host.add(made)
        return made.id

    return adding


def test_r129_store_interface(host, add):
    store = host.store(add("store"))
    assert store.describe().kinds == ["model"]
    request = RegisterRequest(kind="model", project="myproj", name="churn", digest="sha256:1", type="mlflow/sklearn",
                              labels={"stage": "ü"}, metadata={"params": {"alpha": 0.5}, "list": [1, None, "x"]})
    made = store.register(request)
    assert made.metadata == request.metadata
    assert store.register(request) == made
    assert store.get(REF) == made == store.search(StoreQuery()).items[0]
    assert store.update(REF, DescriptorChange(aliases=["prod"])).aliases == ["prod"]
    assert store.locate(REF, ["s3", "file"]).uri == "file://myproj/churn"
    assert store.events("", 0).cursor == "1"
    assert store.collect_garbage([], False).removed == ["sha256:1"]
    assert (store.delete(REF), store.delete(REF)) == (True, False)


def test_r164_agent_interface(host, add):
    agent = host.agent(add("agent"))
    assert agent.describe().kinds == ["job"]
    runnable = RunnableDescriptor(name="r", command=["true"], parameters=[])
    status = agent.submit(Workload(name="w-1", runnable=runnable, parameters={"a": 1, "b": 0.5, "c": True, "d": "x"}))
    assert (status.state, status.started_at, status.timings) == ("running", 12.5, {"staging": 0.25})
    assert [s.name for s in agent.status(["a", "b"])] == ["a", "b"]
    assert agent.events("c", 0).cursor == "cx"
    assert agent.logs("w", "", 100).text == "ü\n\x00\u2028" * 3
    assert agent.cancel("w", 0.5).state == "cancelled"
    assert (agent.collect("known"), agent.collect("w")) == (True, False)


def test_r165_builder_interface(host, add, tmp_path):
    builder = host.builder(add("builder"))
    assert builder.describe().makes == ["trainer"]
    listing = FileListing(files=[FileEntry(path="toy", size=1, digest="git:1")], contents={"toy": "x"})
    assert builder.detect(listing).metadata == {"n": 1}
    result = builder.build(BuildRequest(project="p", name="myapp", digest="git:1", directory="/", output=str(tmp_path)))
    assert result.runnables[0].descriptor == RunnableDescriptor(kind="trainer", name="myapp", command=["true"])


@pytest.mark.parametrize("kind", errors.BY_TYPE)
def test_every_error_class_crosses(host, add, kind):
    identifier = add("agent")
    with pytest.raises(errors.PluginError) as caught:
        host.agent(identifier).status([f"raise-{kind}"])
    error = caught.value
    assert type(error) is errors.BY_TYPE[kind]
    assert (error.message, error.hint) == (f"raised {kind}", "a hint")
    assert error.details == {"code": 7, "extension": "example", "version": "1.2.3", "component": identifier,
                             "hook": "agent_status"}
    assert "agent_status of extension example 1.2.3" in error.__notes__[0]


def test_a_defect_becomes_internal_with_type_and_message(host, add):
    agent = host.agent(add("agent"))
    with pytest.raises(errors.Internal, match="^KeyError: 'odd'"):
        agent.status(["defect-"])
    for _ in range(2 * IN_A_ROW):  # in the server's process: until it has shown to be quick
        assert math.isnan(agent.status(["diverged-"])[0].metrics[0].value)
    with pytest.raises(errors.Internal, match="^SystemExit: that was all"):
        agent.status(["quit-"])


def test_a_wrong_result_is_found_at_the_boundary(host, add):
    agent = host.agent(add("agent"))
    with pytest.raises(errors.Internal, match="result of agent_status"):
        agent.status(["none-"])
    with pytest.raises(errors.Internal, match="agent_collect returned nothing"):
        agent.collect("forgetful")


def test_a_wrong_argument_is_found_at_the_boundary(host, add):
    with pytest.raises(errors.InvalidInput, match="agent_status: names"):
        host.agent(add("agent")).status("w")  # type: ignore[arg-type]


def test_a_hook_that_is_not_offered_is_unsupported(host, add):
    with pytest.raises(errors.Unsupported, match="does not offer store_files") as caught:
        host.store(add("store")).files(REF, [], 1)
    assert caught.value.details["extension"] == "example"


def test_a_hanging_hook_ends_at_the_deadline(host, add):
    agent = host.agent(add("agent"))
    agent.describe()
    with pytest.raises(errors.Cancelled, match="did not answer agent_status before the deadline"):
        agent.status(["hang-2.0"], timeout=0.3)
    assert agent.status(["x"])[0].state == "unknown"


def test_call_id_trace_and_deadline_reach_the_plugin(host, add):
    identifier, traceparent, left = host.agent(add("agent")).status(["call-"], timeout=20)[0].message.split()
    assert len(identifier) == 16
    assert traceparent.startswith("00-")
    assert 10 < float(left) <= 20


def test_configuration_and_state_directory_arrive(host, add, tmp_path):
    store = host.store(add("store", config={"token": "s3cr3t"}))
    store.register(RegisterRequest(kind="model", project="p", name="n", digest="sha256:1"))
    assert list(tmp_path.glob("state-*/registrations"))
    assert store.health()["pid"] > 0


@pytest.mark.parametrize(("plugin", "config", "error", "text"), [
    ("example_extension:Store", {"endpoint": "wrong"}, errors.InvalidInput, "endpoint is no URL"),
    ("example_extension:Misspelt", {}, errors.Permanent, "store_describes"),
    ("example_extension:nobody", {}, errors.Permanent, "has no attribute 'nobody'"),
    ("no_such_module:x", {}, errors.Internal, "No module named 'no_such_module'"),
])
def test_a_plugin_that_cannot_start_fails_its_calls_with_the_reason(host, add, plugin, config, error, text):
    identifier = add("store", plugin=plugin, config=config)
    with pytest.raises(error, match=text) as caught:
        host.store(identifier).describe()
    assert caught.value.details["component"] == identifier
    info = host.components()[0]
    assert info.state == "failed"
    assert text in info.last_crash
