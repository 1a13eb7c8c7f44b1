"""What a version that is not in force any more hears of workloads is not what its successor says."""

from __future__ import annotations

import threading
from pathlib import Path

from fuseml_core.adapters.components import HostedPlugins
from fuseml_core.adapters.routes import Routes
from fuseml_core.host import Component, ComponentInfo, PluginHost
from fuseml_sdk.types import WorkloadEvents, WorkloadStatus


class Agent:
    """Hosts an agent that waits until it is told to answer, and says which version answers."""

    waits, answers = threading.Event(), threading.Event()

    def __init__(self, component):
        self.component = component

    def invoke(self, operation, arguments, call):
        if self.component.version == "1.0.0":
            self.waits.set()
            assert self.answers.wait(30)
        return WorkloadEvents(cursor=arguments["cursor"],
                              statuses=[WorkloadStatus(name=self.component.version, state="running")])

    def info(self):
        return ComponentInfo(self.component, "ready", None, 0, "")

    def stop(self, drain):
        pass


def _component(version):
    return Component(id=f"agent/lights/lamp@{version}", extension="lights", version=version, digest=f"sha256:{version}",
                     family="agent", name="lamp", plugin="lamp:plugin", hosting="subprocess", config={},
                     state_dir=Path("/nowhere"))


def test_events_of_a_version_that_was_replaced_meanwhile_are_asked_of_its_successor(tmp_path):
    host, routes = PluginHost(runtime_dir=tmp_path / "r", log_dir=tmp_path, hosting=Agent), Routes()
    earlier, later = _component("1.0.0"), _component("2.0.0")
    host.add(earlier)
    routes.direct([earlier])
    agent = HostedPlugins(host, lambda _: {}, routes).agent("lights/lamp")
    heard = []
    thread = threading.Thread(target=lambda: heard.append(agent.events("7", 0.0, timeout=30)))
    thread.start()
    assert Agent.waits.wait(30)
    host.add(later)
    routes.direct([later])
    Agent.answers.set()
    thread.join(30)
    assert [(each.cursor, each.statuses[0].name) for each in heard] == [("7", "2.0.0")]
    host.shutdown(1.0)
