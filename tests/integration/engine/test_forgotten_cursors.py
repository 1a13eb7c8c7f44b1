"""A store or agent that does not know a cursor any more, such as after it lost its state, is heard from the beginning."""

from __future__ import annotations

import threading
import time

from fuseml_core.engine.watcher import StoreWatcher
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import AgentDescription, StoreDescription, StoreEvent, StoreEvents, WorkloadEvents, WorkloadStatus


class ForgetfulStore:
    """Knows the cursors that it gave since it was started."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe(self):
        return StoreDescription(name="forgetful", kinds=["model"], schemes=[], capabilities=["events"])

    def events(self, cursor, wait):
        self.asked.append(cursor)
        if cursor == "lost":
            raise InvalidInput("the cursor 'lost' is not known")
        if cursor == "":
            return StoreEvents(events=[StoreEvent(type="created", kind="model", project="p", name="m")], cursor="1")
        time.sleep(0.01)
        return StoreEvents(cursor=cursor)


def test_a_store_is_heard_again_from_the_beginning(workshop):
    store, heard = ForgetfulStore(), threading.Event()
    workshop.components.watched = lambda: [("forgetful", store)]
    with workshop.ledger.begin() as tx:
        tx.feed.set_cursor("store/forgetful", "lost")
    watcher = StoreWatcher(workshop.ledger, workshop.components, lambda _event: heard.set())
    watcher.start()
    try:
        assert heard.wait(30)
        deadline = time.monotonic() + 30
        while "1" not in store.asked and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        watcher.stop()
    assert store.asked[:3] == ["lost", "", "1"]
    with workshop.ledger.read() as tx:
        assert tx.feed.cursor("store/forgetful") == "1"


def test_an_agent_is_heard_again_from_the_beginning(workshop):
    engine, asked, again = workshop.engine, [], threading.Event()
    hearing = engine._hearing

    class Agent:
        """Loses its state after its first answer."""

        def describe(self):
            return AgentDescription(name="forgetful", kinds=["job"], environments=[], schemes=[])

        def events(self, cursor, wait):
            asked.append(cursor)
            if asked == ["", "1"]:
                raise InvalidInput("the cursor '1' is not known")
            if len(asked) == 4:
                again.set()
                engine._stop.wait(30)
            return WorkloadEvents(statuses=[WorkloadStatus(name="w", state="running")], cursor=str(len(asked)))

    hearing._needed = {"forgetful"}
    thread = threading.Thread(target=hearing._hear, args=("forgetful", Agent()), daemon=True)
    thread.start()
    assert again.wait(30)
    engine._stop.set()
    thread.join(30)
    assert asked == ["", "1", "", "3"]
    assert [(agent, status.state) for agent, status in hearing.drain()] == [("forgetful", "running")]
