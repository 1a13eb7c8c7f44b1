"""Hooks are called from several threads at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fuseml_sdk.errors import NotReady


def test_many_threads_use_one_agent(bench: Any) -> None:
    """Asking for the state of a workload never keeps its supervisor from starting."""
    bench.start(limits={"jobs": 100})
    workloads = [bench.workload(["echo", str(number)]) for number in range(24)]
    done, names = threading.Event(), [workload.name for workload in workloads]

    def ask() -> None:
        cursor = ""
        while not done.is_set():
            bench.plugin.agent_status(names)
            cursor = bench.plugin.agent_events(cursor, 0.05).cursor

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(bench.plugin.agent_submit, workloads * 2))
        ends = [bench.until(name) for name in names]
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert {status.state for status in ends} == {"succeeded"}
    assert [bench.log(name) for name in names] == [f"{number}\n" for number in range(24)]


def test_the_limit_holds_when_many_submit_at_once(bench: Any) -> None:
    bench.start(limits={"jobs": 3})

    def submit(number: int) -> bool:
        try:
            bench.plugin.agent_submit(bench.workload("import time; time.sleep(30)", name=f"job-{number}"))
        except NotReady:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(submit, range(12))) == 3
