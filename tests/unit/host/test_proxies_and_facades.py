"""Generated plugin objects and the typed methods over them cover the whole contract."""

from __future__ import annotations

import inspect
import typing

import pytest

from fuseml_core.host.components import Component, attribute
from fuseml_core.host.environment import child_environment
from fuseml_core.host.facades import AgentFacade, BuilderFacade, StoreFacade, default_timeout
from fuseml_core.host.proxy import make_proxy
from fuseml_sdk import loading
from fuseml_sdk.contract import operations
from fuseml_sdk.errors import NotFound, Permanent
from fuseml_sdk.types import LogChunk, WorkloadEvents, WorkloadStatus

FACADES = {"store": StoreFacade, "agent": AgentFacade, "builder": BuilderFacade}


@pytest.mark.parametrize("hook", operations())
def test_r164_every_hook_has_a_proxy_with_its_parameters(hook):
    operation = operations()[hook]
    seen = []
    manager = loading.manager_for(make_proxy([hook], lambda *sent: seen.append(sent)))
    arguments = {parameter.name: object() for parameter in operation.parameters}
    getattr(manager.hook, hook)(**arguments)
    assert seen == [(operation, arguments)]
    assert loading.implemented(manager) == [hook]


def test_a_proxy_leaves_out_hooks_of_a_newer_contract():
    manager = loading.manager_for(make_proxy(["agent_logs", "agent_teleport"], lambda *_: None))
    assert loading.implemented(manager) == ["agent_logs"]
    assert loading.families(manager) == ["agent"]


def test_results_come_back_through_the_proxy():
    chunk = LogChunk(text="x", cursor="1", complete=True)
    manager = loading.manager_for(make_proxy(["agent_logs"], lambda *_: chunk))
    assert loading.call(manager, "agent_logs", {"name": "w", "cursor": "", "limit": 1}) is chunk


@pytest.mark.parametrize("hook", [name for name, o in operations().items() if o.family in FACADES])
def test_r129_every_hook_has_a_method_with_the_same_parameters_and_types(hook):
    operation = operations()[hook]
    method = getattr(FACADES[operation.family], hook.partition("_")[2])
    hints = typing.get_type_hints(method)
    names = [name for name in inspect.signature(method).parameters if name not in ("self", "timeout")]
    assert names == [parameter.name for parameter in operation.parameters]
    assert [hints[parameter.name] for parameter in operation.parameters] == [p.annotation for p in operation.parameters]
    assert hints["return"] == operation.result
    assert inspect.signature(method).parameters["timeout"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("hook", [name for name, o in operations().items() if o.family in FACADES])
def test_methods_call_their_own_hook_with_all_arguments(hook):
    operation = operations()[hook]
    seen = []
    status = WorkloadStatus(name="x", state="running")
    answers = {WorkloadStatus: status, list[WorkloadStatus]: [status],
               WorkloadEvents: WorkloadEvents(statuses=[status], cursor=""),
               LogChunk: LogChunk(text="", cursor="", complete=True)}
    facade = FACADES[operation.family](lambda *sent: seen.append(sent) or answers.get(operation.result))
    values = {parameter.name: 7 if parameter.name == "limit" else object() for parameter in operation.parameters}
    getattr(facade, hook.partition("_")[2])(**values, timeout=1.5)
    assert seen == [(hook, values, 1.5)]


def test_waiting_hooks_get_time_for_their_wait():
    assert default_timeout("store_events", {"cursor": "", "wait": 30}) == 90
    assert default_timeout("agent_cancel", {"name": "x", "grace": 5.0}) == 65
    assert default_timeout("builder_detect", {}) == 10


def test_attribution_is_written_once(tmp_path):
    component = Component("s", "mlflow", "1.0.0", "", "store", "toy", "a:b", "subprocess", {"token": "s3cr3t"}, tmp_path)
    error = attribute(NotFound("x", details={"a": 1}), component, "store_get")
    assert error.details == {"a": 1, "extension": "mlflow", "version": "1.0.0", "component": "s", "hook": "store_get"}
    attribute(error, component, "store_other")
    assert error.details["hook"] == "store_get"
    assert len(error.__notes__) == 1
    assert "s3cr3t" not in repr(component)


def test_the_environment_is_an_allowlist(tmp_path):
    given = {"PATH": "/bin", "HOME": "/home/x", "SECRET": "y", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1",
             "PYTHONPATH": "/x", "LD_PRELOAD": "/y.so", "https_proxy": "http://p", "KUBECONFIG": "/k"}
    little = {"PATH": "/bin", "TZ": "UTC", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    assert child_environment(given, tmp_path, tmp_path / "tmp") == little
    assert child_environment(given, tmp_path, tmp_path / "tmp", ["network:PORT"]) == little | {"https_proxy": "http://p"}
    assert child_environment(given, tmp_path, tmp_path / "tmp", ["kubernetes"]) == little | {
        "https_proxy": "http://p", "KUBECONFIG": "/k"}


@pytest.mark.parametrize("address", ["", "module", ":x", "json:nothing", "json:dumps.nothing.more"])
def test_wrong_plugin_addresses_are_explained(address):
    with pytest.raises(Permanent):
        loading.load(address)
