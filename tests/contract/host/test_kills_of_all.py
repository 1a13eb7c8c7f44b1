"""`kill -9` of a host, its agent and the supervisors of jobs, one by one and together, during more than 1000 calls."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from .conftest import alive, until

JOBS, DEATHS = 260, 24
#: Calls the agent four times for each job, and then waits for the ends. What fails is called again, as an engine does.
HOST = '''
import dataclasses, json, sys, time
from pathlib import Path
from fuseml_core.host import Component, PluginHost
from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.machine import probe
from fuseml_core.host.subprocess_hosting import SubprocessHosting
from fuseml_sdk.errors import NotReady, Retryable
from fuseml_sdk.types import FINAL_STATES, RunnableDescriptor, Workload
runtime, state, witness, first, last = sys.argv[1:]
# As the agent for jobs of this machine runs: it is part of the server, and not confined.
machine = dataclasses.replace(probe(), landlock=0, architecture="", root=False)
def hosting(component):
    return SubprocessHosting(component, runtime_dir=Path(runtime), log=Path(state).parent / "log",
                             policy=RestartPolicy(first=0.01, threshold=10_000, stable=0.0),
                             isolation=Isolation(machine=machine))
host = PluginHost(runtime_dir=Path(runtime), log_dir=Path(state).parent, hosting=hosting)
config = {"limits": {"jobs": 16}, "sockets": runtime}
host.add(Component(id="a", extension="process", version="1", digest="", family="agent", name="process", config=config,
                   plugin="fuseml_process.plugin:ProcessPlugin", hosting="subprocess", state_dir=Path(state),
                   python=Path(sys.executable)))
agent, cursor, calls = host.agent("a"), "", 0
def again(call, *arguments):
    global calls
    while True:
        try:
            found = call(*arguments, timeout=60)
            calls += 1
            return found
        except (NotReady, Retryable):
            time.sleep(0.02)
for number in range(int(first), int(last)):
    name = f"job-{number}"
    command = ["/bin/sh", "-c", f"echo {name} >> {witness}; sleep 0.1"]
    workload = Workload(name=name, runnable=RunnableDescriptor(name="witness", command=command))
    assert again(agent.submit, workload).name == name
    assert again(agent.status, [name])[0].state != "unknown"
    again(agent.logs, name, "", 1000)
    cursor = again(agent.events, cursor, 0.0).cursor
    print("submitted", number, calls, flush=True)
names = [f"job-{number}" for number in range(int(last))]
while True:
    found = again(agent.status, names)
    if all(status.state in FINAL_STATES for status in found):
        break
    time.sleep(0.1)
print("ended", json.dumps({each.name: [each.state, each.reason] for each in found}), flush=True)
host.shutdown()
'''


class Killer(threading.Thread):
    """Kills now and then until it is told to stop; remembers whose supervisors it killed.

    Args:
        state: State folder of the agent, which is in the arguments or variables of all that belong to it.
        seed: Everything random follows from it.
    """

    def __init__(self, state: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.state, self.chance = str(state).encode(), random.Random(seed)
        self.over, self.host = threading.Event(), 0
        self.struck: Counter[str] = Counter()
        self.jobs: set[str] = set()

    def run(self) -> None:
        while self.struck.total() < DEATHS and not self.over.wait(self.chance.uniform(0.1, 1.2)):
            victim = self.chance.choice(["agent", "agent", "supervisor", "supervisor", "host", "all"])
            found = self.found()
            pids = {"agent": found["agent"], "host": [self.host] if self.host else [],
                    "supervisor": found["supervisor"][:1],
                    "all": [*([self.host] if self.host else []), *found["agent"], *found["supervisor"]]}[victim]
            if pids and self.strike(pids):
                self.struck[victim] += 1

    def strike(self, pids: list[int]) -> bool:
        """Kill processes; whose supervisors they are is noted before."""
        struck = False
        for pid in pids:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                self.jobs.update(Path(word.decode()).name for word in words if self.state + b"/work/" in word)
                os.kill(pid, signal.SIGKILL)
                struck = True
        return struck

    def found(self) -> dict[str, list[int]]:
        """The processes that belong to the agent, by what they are."""
        found: dict[str, list[int]] = {"agent": [], "supervisor": [], "other": []}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes()
                if self.state not in arguments and self.state not in (entry / "environ").read_bytes():
                    continue
                kind = ("agent" if b"fuseml_sdk.serve" in arguments else
                        "supervisor" if b"shim/__main__.py" in arguments else "other")
                found[kind].append(int(entry.name))
        self.chance.shuffle(found["supervisor"])
        return found


def _serve(killer: Killer, arguments: list[str], acknowledged: int) -> tuple[int, dict[str, list[str]], int]:
    """One life of the host: the last job that was acknowledged, how all ended if it got so far, and its calls."""
    log = killer.state.decode() + ".host.log"
    with open(log, "wb") as errors, subprocess.Popen(
            [sys.executable, "-c", HOST, *arguments, str(acknowledged + 1), str(JOBS)], text=True,
            stdout=subprocess.PIPE, stderr=errors) as host:
        killer.host, ended, calls = host.pid, {}, 0
        for line in host.stdout:
            word, _, rest = line.partition(" ")
            if word == "submitted":
                acknowledged, calls = map(int, rest.split())
            elif word == "ended":
                ended = json.loads(rest)
                killer.over.set()
        killer.host = 0
    assert host.returncode in (0, -signal.SIGKILL), Path(log).read_text()
    return acknowledged, ended, calls


@pytest.mark.full
@pytest.mark.timeout(600)
def test_r133_kill_9_of_host_agent_and_supervisors_at_random_moments_of_1000_calls(runtime_dir, tmp_path):
    seed = int(os.environ.get("FUSEML_TEST_SEED") or random.randrange(1_000_000))
    print(f"seed {seed}: repeat with FUSEML_TEST_SEED={seed}")
    state, witness = tmp_path / "state", tmp_path / "witness"
    killer, acknowledged, ended, calls = Killer(state, seed), -1, {}, 0
    killer.start()
    try:
        while not ended:
            acknowledged, ended, more = _serve(killer, [str(runtime_dir), str(state), str(witness)], acknowledged)
            calls += more
    finally:
        killer.over.set()
        killer.join(60)
    print(f"{calls} calls answered; killed: {dict(killer.struck)}")
    assert calls >= 1000
    assert killer.struck.total() >= 10
    starts = Counter(witness.read_text().split())
    assert set(ended) == {f"job-{number}" for number in range(JOBS)}, "nothing that was acknowledged is lost"
    assert {name: times for name, times in starts.items() if times > 1} == {}, "nothing runs twice"
    good = {name for name, (told, _) in ended.items() if told == "succeeded"}
    assert good <= set(starts), "what succeeded did run"
    bad = {name: told for name, told in ended.items() if name not in good}
    assert set(bad) <= killer.jobs, "only a job whose supervisor was killed fails"
    # A supervisor forks, so what was killed may have been about to become the job itself.
    assert {tuple(told) for told in bad.values()} <= {("failed", "Lost"), ("failed", "Signal")}
    assert until(lambda: not any(alive(pid) for pids in killer.found().values() for pid in pids), 60), "nothing runs on"
