"""AG: what workload agents promise about their books: describe, submit, status, events."""

from __future__ import annotations

import time

from fuseml_sdk.errors import InvalidInput, NotFound, NotReady
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect, expect_filled, within
from fuseml_sdk.testing.rules import Condition, NotApplicable, Rulebook
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import Workload, WorkloadStatus

BOOK = Rulebook("agent")
RUNS_JOBS = Condition("runs jobs", "the agent runs no jobs", lambda bench: "job" in bench.about("agent").kinds)
#: Seconds in which a submission has to be answered.
MAX_SUBMIT = 15.0
#: Seconds in which there has to be room for another job.
_ROOM = 120.0


@BOOK.rule("AG01", "The description names kinds, environments and schemes.",
           why="Steps are given to agents by them; without them the agent gets none.",
           fix="List in agent_describe what the agent runs and which locations it can stage, preferred first.")
def _says_what_it_runs(bench: Bench) -> None:
    expect_filled(bench.about("agent"), "name", "kinds", "environments", "domains")


@BOOK.rule("AG02", "Workloads that were never submitted are unknown, in the order of the question.",
           why="A server that restarts asks for all it remembers; an error would hide the others' states.",
           fix="Return one status per name, in the same order, with state `unknown` for those you do not know.")
def _unknown_is_no_error(bench: Bench) -> None:
    names = ["conformance-never-b", "conformance-never-a"]
    found = bench.plugin.call("agent_status", names=names)
    expect([status.name for status in found] == names, f"asked for {names}, it answered {brief(found)}")
    expect(all(status.state == "unknown" for status in found), f"the states are {[s.state for s in found]}")


@BOOK.rule("AG03", "There are no logs of workloads that were never submitted.",
           why="An empty log would look as if the workload had written nothing.",
           fix="Raise NotFound in agent_logs for names that you do not know.")
def _no_logs_of_unknown(bench: Bench) -> None:
    bench.refused("agent_logs", NotFound, name="conformance-never", cursor="", limit=1000)


@BOOK.rule("AG04", "Collecting what was never submitted does nothing.",
           why="Servers collect what they remember, also after somebody else did.",
           fix="Return False in agent_collect for names that you do not know.")
def _collecting_unknown(bench: Bench) -> None:
    found = bench.plugin.call("agent_collect", name="conformance-never")
    expect(found is False, f"agent_collect answered {found!r}")


@BOOK.rule("AG05", "Submitting returns at once, with the workload's name.",
           why="Staging and building take minutes; the server waits for the answer to go on.",
           fix="Begin the work in the background and return the first status.", only=[RUNS_JOBS])
def _submitting_is_quick(bench: Bench) -> None:
    workload = bench.samples.quick()
    found, took = timed_submit(bench.plugin, workload)
    expect(found.name == workload.name, f"submitted {workload.name!r}, it answered {found.name!r}")
    expect(found.state != "unknown", "the state is unknown")
    expect(took < MAX_SUBMIT, f"it took {took:.1f} s")
    again = status(bench.plugin, workload.name)
    expect(again.state != "unknown", "right after submission the state is unknown")


@BOOK.rule("AG06", "Statuses come in the order of the question, one for each name.",
           why="Callers match them by position.", fix="Map over `names`; ask the back-end once for all of them.",
           only=[RUNS_JOBS])
def _statuses_are_in_order(bench: Bench) -> None:
    workload = bench.samples.quick()
    submit(bench.plugin, workload)
    names = ["conformance-z", workload.name, "conformance-a", workload.name]
    found = [each.name for each in bench.plugin.call("agent_status", names=names)]
    expect(found == names, f"asked for {names}, it answered {found}")
    expect(bench.plugin.call("agent_status", names=[]) == [], "asked for none, it answered some")


@BOOK.rule("AG07", "A kind of workload that it does not run is refused.",
           why="The step would wait for ever.", level="silver",
           fix="Raise InvalidInput in agent_submit when `kind` is not among those of agent_describe.")
def _refuses_other_kinds(bench: Bench) -> None:
    missing = [kind for kind in ("job", "service") if kind not in bench.about("agent").kinds]
    if not missing:
        raise NotApplicable("the agent runs every kind")
    workload = bench.samples.quick().model_copy(update={"kind": missing[0]})
    bench.refused("agent_submit", InvalidInput, workload=workload)


@BOOK.rule("AG08", "Events wait no longer than they are told to.", level="silver",
           why="The server that asks wants to stop, or to ask somebody else.",
           fix="Return an empty list with the same cursor when `wait` seconds have passed.")
def _events_return(bench: Bench) -> None:
    cursor = bench.plugin.call("agent_events", cursor="", wait=0.0).cursor
    with within(15.0, "with wait=0.5"):
        bench.plugin.call("agent_events", cursor=cursor, wait=0.5)


def submit(plugin: ServedPlugin, workload: Workload) -> WorkloadStatus:
    """Submit a workload, again and again while the agent has no room, as callers have to."""
    return timed_submit(plugin, workload)[0]


def timed_submit(plugin: ServedPlugin, workload: Workload) -> tuple[WorkloadStatus, float]:
    """As `submit`, with the seconds that the last attempt took."""
    end = time.monotonic() + _ROOM
    while True:
        begun = time.monotonic()
        try:
            found: WorkloadStatus = plugin.call("agent_submit", workload=workload)
        except NotReady:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return found, time.monotonic() - begun


def status(plugin: ServedPlugin, name: str) -> WorkloadStatus:
    """The status of one workload."""
    found: WorkloadStatus = plugin.call("agent_status", names=[name])[0]
    return found


def state(plugin: ServedPlugin, name: str) -> str:
    """The state of one workload."""
    return status(plugin, name).state
