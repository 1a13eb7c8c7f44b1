"""The ASGI runtime as a server sees it: start and stop, limits of work at once, hooks that hang, its factory."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import types

import pytest

from fuseml_sdk import calls, hookimpl
from fuseml_sdk.errors import InvalidInput, NotReady
from fuseml_sdk.serve import asgi
from fuseml_sdk.serve.configuration import Configuration
from fuseml_sdk.types import AgentDescription, WorkloadStatus


class Agent:
    """Waits in `agent_status` until it is let go, or until nobody wants to know any more."""

    def __init__(self):
        self.release = threading.Event()
        self.running = threading.Semaphore(0)
        self.events = []

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.events.append(f"configured {config}")
        if config.get("refuse"):
            raise NotReady("the back-end is away")

    @hookimpl
    def fuseml_shutdown(self):
        self.events.append("shut down")

    @hookimpl
    def agent_describe(self):
        return AgentDescription(name="toy", kinds=["job"], environments=[], schemes=[])

    @hookimpl
    def agent_status(self, names):
        self.running.release()
        while not self.release.wait(0.01) and not calls.current().cancelled:
            pass
        self.events.append("cancelled" if calls.current().cancelled else "answered")
        return [WorkloadStatus(name=name, state="unknown") for name in names]


@pytest.fixture
def agent(monkeypatch):
    it = Agent()
    module = types.ModuleType("asgi_toy")
    module.agent = it
    monkeypatch.setitem(sys.modules, "asgi_toy", module)
    yield it
    it.release.set()


class Server:
    """What an ASGI server does, as far as these tests need it."""

    def __init__(self, runtime):
        self.runtime = runtime

    async def ask(self, method, path, body=b"", *, gone=None, headers=()):
        sent, pending = [], [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if pending:
                return pending.pop()
            await (gone.wait() if gone else asyncio.Event().wait())
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        raw = [(b"content-length", str(len(body)).encode()), *headers]
        await asyncio.wait_for(self.runtime({"type": "http", "method": method, "path": path, "headers": raw}, receive, send), 60)
        return (sent[0]["status"], json.loads(sent[1]["body"])) if sent else None

    async def call(self, hook, gone=None, **arguments):
        return await self.ask("POST", f"/v1/hooks/{hook}", json.dumps(arguments).encode(), gone=gone)

    async def live(self):
        """Start; returns what stops it again."""
        inbox, outbox = asyncio.Queue(), asyncio.Queue()
        task = asyncio.ensure_future(self.runtime({"type": "lifespan"}, inbox.get, outbox.put))
        await inbox.put({"type": "lifespan.startup"})
        assert (await asyncio.wait_for(outbox.get(), 60))["type"] == "lifespan.startup.complete"

        async def stop():
            await inbox.put({"type": "lifespan.shutdown"})
            assert (await asyncio.wait_for(outbox.get(), 60))["type"] == "lifespan.shutdown.complete"
            await task

        return stop


def runtime(tmp_path, **options):
    config = options.pop("config", {})
    drain = options.pop("drain", 30.0)
    return Server(asgi.AsgiRuntime("asgi_toy:agent", Configuration(config, str(tmp_path / "state"), drain), **options))


def test_the_plugin_is_made_at_the_start_and_shut_down_at_the_stop(agent, tmp_path):
    async def scenario():
        server = runtime(tmp_path, config={"a": 1})
        stop = await server.live()
        assert agent.events == ["configured {'a': 1}"]
        assert (await server.ask("GET", "/readyz"))[0] == 200
        await stop()

    asyncio.run(scenario())
    assert agent.events == ["configured {'a': 1}", "shut down"]


def test_a_server_without_lifespan_gets_the_plugin_at_the_first_request(agent, tmp_path):
    async def scenario():
        server = runtime(tmp_path)
        assert (await server.ask("GET", "/healthz"))[0] == 200
        assert agent.events == []
        found = await asyncio.gather(*[server.call("agent_describe") for _ in range(5)])
        assert {status for status, _ in found} == {200}

    asyncio.run(scenario())
    assert agent.events == ["configured {}"]


def test_a_plugin_that_cannot_start_says_why(agent, tmp_path):
    async def scenario():
        server = runtime(tmp_path, config={"refuse": True})
        await server.live()
        assert (await server.ask("GET", "/healthz"))[0] == 200
        status, document = await server.ask("GET", "/v1/describe")
        assert (status, document["failure"]["type"], document["failure"]["detail"]) == (200, "not-ready", "the back-end is away")
        assert (await server.ask("GET", "/readyz"))[0] == 503
        assert (await server.call("agent_describe"))[1]["detail"] == "the back-end is away"

    asyncio.run(scenario())


def test_hooks_run_at_once_up_to_the_limit_and_more_wait(agent, tmp_path):
    async def scenario():
        server = runtime(tmp_path, workers=2)
        waiting = [asyncio.ensure_future(server.call("agent_status", names=["a"])) for _ in range(4)]
        for _ in range(2):
            await asyncio.to_thread(agent.running.acquire, timeout=30)
        assert not agent.running.acquire(blocking=False)
        # Whether it lives can be asked all the same.
        assert (await server.ask("GET", "/healthz"))[0] == 200
        agent.release.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}

    asyncio.run(scenario())


def test_who_goes_away_cancels_the_call_and_the_place_is_free_when_the_hook_has_ended(agent, tmp_path):
    async def scenario():
        server, gone = runtime(tmp_path, workers=1), asyncio.Event()
        first = asyncio.ensure_future(server.call("agent_status", gone, names=["a"]))
        await asyncio.to_thread(agent.running.acquire, timeout=30)
        queued, left = asyncio.ensure_future(server.call("agent_status", gone, names=["b"])), asyncio.Event()
        await asyncio.sleep(0)
        gone.set()
        assert await first is None
        assert await queued is None
        assert (await server.call("agent_describe", left))[0] == 200

    asyncio.run(scenario())
    assert agent.events == ["configured {}", "cancelled"]


def test_too_many_waiting_are_told_at_once(agent, tmp_path, monkeypatch):
    monkeypatch.setattr(asgi, "QUEUE", 1)

    async def scenario():
        server = runtime(tmp_path, workers=1)
        first = asyncio.ensure_future(server.call("agent_status", names=["a"]))
        await asyncio.to_thread(agent.running.acquire, timeout=30)
        second = asyncio.ensure_future(server.call("agent_status", names=["b"]))
        while not server.runtime._waiting:
            await asyncio.sleep(0)
        status, document = await server.call("agent_status", names=["c"])
        assert (status, document["type"]) == (503, "not-ready")
        agent.release.set()
        assert [(await each)[0] for each in (first, second)] == [200, 200]

    asyncio.run(scenario())


def test_the_stop_waits_for_calls_but_not_for_ever(agent, tmp_path):
    async def scenario():
        server = runtime(tmp_path, drain=0.05)
        stop = await server.live()
        call = asyncio.ensure_future(server.call("agent_status", names=["a"]))
        await asyncio.to_thread(agent.running.acquire, timeout=30)
        await stop()
        assert "shut down" not in agent.events, "a plugin is not shut down under a call"
        agent.release.set()
        assert (await call)[0] == 200

    asyncio.run(scenario())


def test_websockets_are_refused(agent, tmp_path):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(runtime(tmp_path).runtime({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1003}]


def test_the_factory_reads_the_environment(agent, tmp_path, monkeypatch):
    monkeypatch.delenv("FUSEML_PLUGIN", raising=False)
    with pytest.raises(InvalidInput, match="FUSEML_PLUGIN"):
        asgi.application()
    settings, token = tmp_path / "settings.json", tmp_path / "token"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps({"config": {"b": 2}, "state_dir": str(tmp_path / "state")}))
    token.write_text("t")
    for name, value in {"FUSEML_PLUGIN": "asgi_toy:agent", "FUSEML_PLUGIN_CONFIG": settings,
                        "FUSEML_PLUGIN_TOKEN_FILE": token}.items():
        monkeypatch.setenv(name, str(value))

    async def scenario():
        server = Server(asgi.application())
        assert (await server.ask("GET", "/v1/describe"))[0] == 401
        assert (await server.ask("GET", "/v1/describe", headers=[(b"authorization", b"Bearer t")]))[0] == 200

    asyncio.run(scenario())
    assert agent.events == ["configured {'b': 2}"]
    assert "FUSEML_PLUGIN_CONFIG" not in os.environ, "what may hold secrets is not left to children"
