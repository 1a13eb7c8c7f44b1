"""Hooks of a workload agent: from a description of work to work that runs."""

from __future__ import annotations

from fuseml_sdk.hookspecs.marker import hookspec
from fuseml_sdk.types import AgentDescription, LogChunk, Workload, WorkloadEvents, WorkloadStatus


class AgentSpecs:
    """Hooks of a workload agent; it runs jobs and services wherever it likes and tells what becomes of them."""

    @hookspec(firstresult=True)
    def agent_describe(self) -> AgentDescription:
        """Say what the agent can run and how much of it.

        Asked after each start, and again when the server places workloads.

        Returns:
            Kinds of workloads, environments, location schemes it can stage, capabilities and capacity.

        Raises:
            NotReady: The back-end cannot be asked now.

        Example:
            >>> class Agent:
            ...     @hookimpl
            ...     def agent_describe(self):
            ...         return AgentDescription(name="queue", kinds=["job"], environments=["python"], schemes=["file"],
            ...                                 capacity={"jobs": 4.0})
            >>> Agent().agent_describe().capacity
            {'jobs': 4.0}
        """

    @hookspec(firstresult=True)
    def agent_submit(self, workload: Workload) -> WorkloadStatus:
        """Start a job or a service, and return at once: staging, building and running are reported by events.

        Idempotent by `workload.name`: a second call starts nothing and returns the state of the first, also after the
        agent was started again.

        Args:
            workload: The runnable with its inputs, parameters and resources.

        Returns:
            The state right after the submission.

        Raises:
            InvalidInput: The agent can never run this, with the reason.
            NotReady: There is no room now; the caller tries again later.

        Example:
            >>> class Agent:
            ...     def __init__(self):
            ...         self.known = {}
            ...     @hookimpl
            ...     def agent_submit(self, workload):
            ...         if workload.kind == "service":
            ...             raise InvalidInput("this agent runs no services", hint="Choose another agent.")
            ...         return self.known.setdefault(workload.name, WorkloadStatus(name=workload.name, state="pending"))
            >>> job = Workload(name="train-1", runnable=RunnableDescriptor(name="trainer", command=["true"]))
            >>> agent = Agent()
            >>> agent.agent_submit(job) is agent.agent_submit(job)
            True
        """

    @hookspec(firstresult=True)
    def agent_status(self, names: list[str]) -> list[WorkloadStatus]:
        """Return the state of each of some workloads now.

        Args:
            names: Names of workloads, as they were submitted.

        Returns:
            One status for each name, in the same order; state `unknown` for those never submitted or forgotten.

        Raises:
            NotReady: The back-end cannot be asked now.

        Example:
            >>> class Agent:
            ...     known = {"a": WorkloadStatus(name="a", state="running")}
            ...     @hookimpl
            ...     def agent_status(self, names):
            ...         return [self.known.get(name) or WorkloadStatus(name=name, state="unknown") for name in names]
            >>> [status.state for status in Agent().agent_status(["b", "a"])]
            ['unknown', 'running']
        """

    @hookspec(firstresult=True)
    def agent_events(self, cursor: str, wait: float) -> WorkloadEvents:
        """Return statuses that changed since a cursor; the server follows each agent with this hook.

        An agent that cannot wait returns at once and says in `agent_describe().events_interval` how often to ask.
        While waiting it should look at `calls.current().cancelled`.

        Args:
            cursor: From the last answer; empty: the status of every workload that the agent knows.
            wait: Seconds to wait for a change if there is none yet, at most 30.

        Returns:
            Statuses, oldest first, each workload at most once, and the cursor for the next call.

        Raises:
            InvalidInput: The cursor is not known any more; the server begins again with an empty one.

        Example:
            >>> class Agent:
            ...     changes = [WorkloadStatus(name="a", state="running"), WorkloadStatus(name="a", state="succeeded")]
            ...     @hookimpl
            ...     def agent_events(self, cursor, wait):
            ...         new = self.changes[int(cursor or 0):]
            ...         latest = {status.name: status for status in new}
            ...         return WorkloadEvents(statuses=list(latest.values()), cursor=str(len(self.changes)))
            >>> events = Agent().agent_events("", 0.0)
            >>> [(status.name, status.state) for status in events.statuses], events.cursor
            ([('a', 'succeeded')], '2')
        """

    @hookspec(firstresult=True)
    def agent_logs(self, name: str, cursor: str, limit: int) -> LogChunk:
        r"""Return a piece of a workload's output; it stays available until `agent_collect`.

        Args:
            name: Of the workload.
            cursor: From the last piece; empty: from the beginning.
            limit: Bytes to return at most.

        Returns:
            The text, the cursor after it, and whether the workload has ended and nothing follows.

        Raises:
            NotFound: There is no such workload.
            InvalidInput: The cursor is not one of this log.

        Example:
            >>> class Agent:
            ...     output = {"a": b"epoch 1\nepoch 2\n"}
            ...     @hookimpl
            ...     def agent_logs(self, name, cursor, limit):
            ...         if name not in self.output:
            ...             raise NotFound(f"there is no workload {name}")
            ...         start = int(cursor or 0)
            ...         piece = self.output[name][start:start + limit]
            ...         return LogChunk(text=piece.decode(errors="replace"), cursor=str(start + len(piece)),
            ...                         complete=False)
            >>> Agent().agent_logs("a", "8", 7).text
            'epoch 2'
        """

    @hookspec(firstresult=True)
    def agent_cancel(self, name: str, grace: float) -> WorkloadStatus:
        """Stop a workload: ask, then force. Cancelling one that has ended changes nothing.

        Args:
            name: Of the workload.
            grace: Seconds between asking (such as SIGTERM) and forcing (such as SIGKILL).

        Returns:
            The state after the call; `cancelled` once nothing runs any more, which may come later by events.

        Raises:
            NotFound: There is no such workload.

        Example:
            >>> class Agent:
            ...     known = {"a": WorkloadStatus(name="a", state="succeeded"),
            ...              "b": WorkloadStatus(name="b", state="running")}
            ...     @hookimpl
            ...     def agent_cancel(self, name, grace):
            ...         if name not in self.known:
            ...             raise NotFound(f"there is no workload {name}")
            ...         if self.known[name].state not in FINAL_STATES:
            ...             self.known[name] = WorkloadStatus(name=name, state="cancelled")
            ...         return self.known[name]
            >>> [Agent().agent_cancel(name, 5.0).state for name in ("a", "b")]
            ['succeeded', 'cancelled']
        """

    @hookspec(firstresult=True)
    def agent_collect(self, name: str) -> bool:
        """Forget a workload that has ended and free what it holds: files, logs, environments of its own.

        Args:
            name: Of the workload.

        Returns:
            False if it was gone already.

        Raises:
            InvalidInput: It still runs; cancel it first.

        Example:
            >>> class Agent:
            ...     def __init__(self):
            ...         self.known = {"a": "succeeded"}
            ...     @hookimpl
            ...     def agent_collect(self, name):
            ...         if self.known.get(name) == "running":
            ...             raise InvalidInput(f"{name} still runs", hint="Cancel it first.")
            ...         return self.known.pop(name, None) is not None
            >>> agent = Agent()
            >>> agent.agent_collect("a"), agent.agent_collect("a")
            (True, False)
        """
