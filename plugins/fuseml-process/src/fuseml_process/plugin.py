"""The plugin object: the hooks of a workload agent over :class:`fuseml_process.agent.ProcessAgent`."""

from __future__ import annotations

from typing import Any

from fuseml_process.agent import ProcessAgent
from fuseml_process.configuration import read_configuration
from fuseml_sdk import hookimpl
from fuseml_sdk.environments import find_uv
from fuseml_sdk.errors import NotReady
from fuseml_sdk.types import AgentDescription, LogChunk, Workload, WorkloadEvents, WorkloadStatus


class ProcessPlugin:
    """Hook implementations; see :class:`fuseml_sdk.hookspecs.AgentSpecs` for what each promises."""

    def __init__(self) -> None:
        self._agent: ProcessAgent | None = None

    @property
    def agent(self) -> ProcessAgent:
        """The configured agent.

        Raises:
            NotReady: `fuseml_configure` was not called.
        """
        if self._agent is None:
            raise NotReady("the process agent has not been configured")
        return self._agent

    @hookimpl
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """Take the configuration; workloads of a former process are found again."""
        if self._agent is not None:
            self._agent.close()
        self._agent = ProcessAgent(read_configuration(config, state_dir))

    @hookimpl
    def fuseml_health(self) -> dict[str, Any]:
        """Whether uv is at hand, and where."""
        return {"uv": str(find_uv()), "capacity": self.agent.describe().capacity}

    @hookimpl
    def fuseml_shutdown(self) -> None:
        """Let go; workloads run on under their supervisors."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    @hookimpl
    def agent_describe(self) -> AgentDescription:
        """What this machine can run and how much of it."""
        return self.agent.describe()

    @hookimpl
    def agent_submit(self, workload: Workload) -> WorkloadStatus:
        """Start a workload, once."""
        return self.agent.submit(workload)

    @hookimpl
    def agent_status(self, names: list[str]) -> list[WorkloadStatus]:
        """The state of each workload."""
        return self.agent.status(names)

    @hookimpl
    def agent_events(self, cursor: str, wait: float) -> WorkloadEvents:
        """What changed since `cursor`."""
        return self.agent.events(cursor, wait)

    @hookimpl
    def agent_logs(self, name: str, cursor: str, limit: int) -> LogChunk:
        """A piece of a workload's output."""
        return self.agent.logs(name, cursor, limit)

    @hookimpl
    def agent_cancel(self, name: str, grace: float) -> WorkloadStatus:
        """Stop a workload."""
        return self.agent.cancel(name, grace)

    @hookimpl
    def agent_collect(self, name: str) -> bool:
        """Forget an ended workload."""
        return self.agent.collect(name)


plugin = ProcessPlugin()
