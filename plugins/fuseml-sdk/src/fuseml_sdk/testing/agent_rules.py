"""AG: what workload agents promise about their books: describe, submit, status, events."""

from __future__ import annotations

from fuseml_sdk.testing.bench import Bench, brief, expect
from fuseml_sdk.testing.rules import Rulebook

BOOK = Rulebook("agent")


@BOOK.rule("AG01", "The description names kinds, environments and schemes.",
           why="Steps are given to agents by them; without them the agent gets none.",
           fix="List in agent_describe what the agent runs and which locations it can stage, preferred first.")
def _says_what_it_runs(bench: Bench) -> None:
    about = bench.about("agent")
    expect(about.name, "the name is empty")
    expect(about.kinds, "kinds is empty")
    expect(about.environments, "environments is empty")
    expect(about.domains, "domains is empty")


@BOOK.rule("AG02", "Workloads that were never submitted are unknown, in the order of the question.",
           why="A server that restarts asks for all it remembers; an error would hide the others' states.",
           fix="Return one status per name, in the same order, with state `unknown` for those you do not know.")
def _unknown_is_no_error(bench: Bench) -> None:
    names = ["conformance-never-b", "conformance-never-a"]
    found = bench.plugin.call("agent_status", names=names)
    expect([status.name for status in found] == names, f"asked for {names}, it answered {brief(found)}")
    expect(all(status.state == "unknown" for status in found), f"the states are {[s.state for s in found]}")
