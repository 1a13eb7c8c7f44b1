"""AG11 to AG22: what workload agents promise about workloads that run."""

from __future__ import annotations

from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.testing.agent_rules import RUNS_JOBS, state, status, submit
from fuseml_sdk.testing.bench import Bench
from fuseml_sdk.testing.expectations import brief, expect, until
from fuseml_sdk.testing.rules import Rulebook
from fuseml_sdk.testing.served import ServedPlugin
from fuseml_sdk.types import FINAL_STATES, Workload, WorkloadStatus

BOOK = Rulebook("agent", only=[RUNS_JOBS])
#: Seconds in which a job that ends at once has to be over, its environment included.
_SOON = 120.0
_TEXT = "näme 日本 🦀 " * 20


@BOOK.rule("AG11", "A job that ends with exit code 0 has succeeded.",
           why="The pipeline goes on with what it made.",
           fix="Report the state succeeded and the exit code when the process has ended and outputs are collected.")
def _success_is_told(bench: Bench) -> None:
    _expect_ended(quick(bench), "succeeded", exit_code=0)


@BOOK.rule("AG12", "A job that ends with another exit code has failed, and it is said why.",
           why="People look at reason and message first, and often at nothing else.",
           fix="Report the state failed with reason, exit code and a message that says what happened and what to do.")
def _failure_is_told(bench: Bench) -> None:
    found = ended(bench.plugin, _submitted(bench, bench.samples.failing()))
    _expect_ended(found, "failed", exit_code=3)
    expect(found.reason and found.message, f"reason {found.reason!r}, message {found.message!r}")


@BOOK.rule("AG13", "Times go forward, and an ended workload has an end.",
           why="Durations and costs are computed of them.", level="silver",
           fix="Set submitted_at, started_at and ended_at in seconds since the epoch, once each.")
def _times_go_forward(bench: Bench) -> None:
    found = quick(bench)
    times = [found.submitted_at, found.started_at, found.ended_at]
    known = [time for time in times if time is not None]
    expect(found.ended_at, "ended_at is missing")
    expect(known == sorted(known) and known[0] > 1e9, f"the times are {times}")


@BOOK.rule("AG14", "The log holds all that the workload wrote, and is complete at its end.",
           why="It is all that people have when something goes wrong.",
           fix="Keep standard output and error until the workload is collected; set `complete` when nothing follows.")
def _log_is_whole(bench: Bench) -> None:
    name = quick(bench).name
    text, complete = read_log(bench.plugin, name, 1 << 20)
    expect(_TEXT in text, f"the log holds {brief(text)}")
    expect(complete, "it is not complete although the workload has ended")


@BOOK.rule("AG15", "Read piece by piece, the log is the same, and no character is torn.",
           why="Logs are followed in pieces; torn characters become question marks.",
           fix="End a piece before a character that does not fit, and let the cursor name the place.")
def _log_in_pieces(bench: Bench) -> None:
    name = quick(bench).name
    whole, _ = read_log(bench.plugin, name, 1 << 20)
    pieces, complete = read_log(bench.plugin, name, 50)
    expect(pieces == whole, f"in pieces of 50 bytes it is {brief(pieces)}, at once {brief(whole)}")
    expect(complete, "the last piece does not say that it is complete")


@BOOK.rule("AG16", "Submitted again by the same name, nothing runs a second time.",
           why="A submission is repeated after a lost answer; work done twice costs money and spoils results.",
           fix="Look the name up first; return the state of the first submission, also after it ended.")
def _submitting_is_idempotent(bench: Bench) -> None:
    workload = bench.samples.quick(_TEXT)
    submit(bench.plugin, workload)
    again = submit(bench.plugin, workload)
    expect(again.name == workload.name, f"it answered for {again.name!r}")
    done = ended(bench.plugin, workload.name)
    last = submit(bench.plugin, workload)
    expect(last.state == done.state and last.ended_at == done.ended_at,
           f"submitted after its end, it is {last.state}, ended at {last.ended_at}; before: {done.state}, "
           f"{done.ended_at}")


@BOOK.rule("AG17", "A workload that is cancelled ends, and is cancelled.",
           why="People cancel what costs money or does harm.",
           fix="Ask the workload to end, force it after `grace` seconds, and report the state cancelled.")
def _cancelling_ends(bench: Bench) -> None:
    name = _submitted(bench, bench.samples.lasting())
    until(lambda: state(bench.plugin, name) in ("running", "ready", *FINAL_STATES), _SOON,
          lambda: f"it does not start: {brief(status(bench.plugin, name))}")
    bench.plugin.call("agent_cancel", name=name, grace=1.0)
    _expect_ended(ended(bench.plugin, name), "cancelled")


@BOOK.rule("AG18", "Cancelling what has ended changes nothing.",
           why="It may end while the request is on its way; a success must not become a cancellation.",
           fix="Return the final state as it is.")
def _cancelling_ended(bench: Bench) -> None:
    before = quick(bench)
    after = bench.plugin.call("agent_cancel", name=before.name, grace=0.0)
    expect(after.state == before.state, f"it was {before.state} and is {after.state}")
    expect(state(bench.plugin, before.name) == before.state, "its state changed afterwards")


@BOOK.rule("AG19", "What was collected is forgotten, and collecting it again says so.",
           why="Servers collect after every run, and repeat it after a lost answer.",
           fix="Return True if something was there and False otherwise; then the state is unknown.")
def _collecting_forgets(bench: Bench) -> None:
    name = _submitted(bench, bench.samples.quick())
    ended(bench.plugin, name)
    bench.done_once("agent_collect", name=name)
    expect(state(bench.plugin, name) == "unknown", f"its state is {state(bench.plugin, name)}")
    bench.refused("agent_logs", NotFound, name=name, cursor="", limit=100)


@BOOK.rule("AG20", "What runs cannot be collected.",
           why="Its outputs would be lost, and nobody would look after it any more.",
           fix="Raise InvalidInput in agent_collect while the workload runs.")
def _running_is_kept(bench: Bench) -> None:
    name = _submitted(bench, bench.samples.lasting())
    try:
        bench.refused("agent_collect", InvalidInput, name=name)
    finally:
        bench.plugin.call("agent_cancel", name=name, grace=0.0)
    ended(bench.plugin, name)


@BOOK.rule("AG21", "Every change of a workload shows in the events after a cursor, at the latest when it ended.",
           why="Servers follow agents by events; what they are not told they learn a minute later, or never.",
           fix="Let a cursor name a place in time, and return each workload that changed since, once, oldest first.")
def _events_are_told(bench: Bench) -> None:
    cursor = bench.plugin.call("agent_events", cursor="", wait=0.0).cursor
    name = _submitted(bench, bench.samples.quick())
    last: list[WorkloadStatus] = []

    def look() -> bool:
        nonlocal cursor
        found = bench.plugin.call("agent_events", cursor=cursor, wait=1.0)
        names = [each.name for each in found.statuses]
        expect(len(names) == len(set(names)), f"one answer names a workload twice: {names}")
        cursor = found.cursor
        last.extend(each for each in found.statuses if each.name == name)
        return bool(last) and last[-1].state in FINAL_STATES

    until(look, _SOON, lambda: f"its end was not told; the events were {brief([each.state for each in last])}")


@BOOK.rule("AG22", "Workloads are known after kill -9 and a new start.", needs=["process", "restart"],
           why="Servers are upgraded while jobs run; a job that is forgotten is run again, or never ends.",
           fix="Keep workloads on disk or in the back-end, and let them run in processes of their own.")
def _known_across_kill(bench: Bench) -> None:
    done, running = bench.samples.quick(_TEXT), bench.samples.lasting()

    def before(plugin: ServedPlugin) -> WorkloadStatus:
        for workload in (done, running):
            submit(plugin, workload)
        return ended(plugin, done.name)

    with bench.killed(before) as (plugin, told):
        found = state(plugin, done.name)
        expect(found == told.state, f"the ended one was {told.state} and is {found}")
        expect(state(plugin, running.name) != "unknown", "the running one is unknown")
        plugin.call("agent_cancel", name=running.name, grace=0.0)
        ended(plugin, running.name)


def _expect_ended(found: WorkloadStatus, wanted: str, exit_code: int | None = None) -> None:
    """Say how a workload ended unless it ended as it had to."""
    expect(found.state == wanted, f"the state is {found.state}: {found.reason} {found.message}")
    expect(exit_code is None or found.exit_code == exit_code,
           f"the exit code is {found.exit_code}, it was {exit_code}")


def quick(bench: Bench) -> WorkloadStatus:
    """The final status of a job that wrote a text and ended, shared by the rules that only look at it."""
    name = bench.once("quick", lambda: _submitted(bench, bench.samples.quick(_TEXT)))
    return ended(bench.plugin, name)


def ended(plugin: ServedPlugin, name: str) -> WorkloadStatus:
    """Wait for the end of a workload and return its status."""
    until(lambda: state(plugin, name) in (*FINAL_STATES, "unknown"), _SOON,
          lambda: f"it has not ended: {brief(status(plugin, name))}")
    return status(plugin, name)


def read_log(plugin: ServedPlugin, name: str, limit: int) -> tuple[str, bool]:
    """The whole log, read in pieces, and whether its last piece says that it is complete."""
    text, cursor = "", ""
    for _ in range(1000):
        chunk = plugin.call("agent_logs", name=name, cursor=cursor, limit=limit)
        text += chunk.text
        if chunk.complete or chunk.cursor == cursor:
            return text, chunk.complete
        cursor = chunk.cursor
    return text, False


def _submitted(bench: Bench, workload: Workload) -> str:
    submit(bench.plugin, workload)
    return workload.name
