"""Hosts of the kit: each starts a plugin over a state directory, and says what it can do with it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fuseml_sdk.errors import Internal, InvalidInput
from fuseml_sdk.loading import load
from fuseml_sdk.serve.configuration import Configuration
from fuseml_sdk.testing.exchanges import Answer, HttpExchange, ThreadExchange
from fuseml_sdk.testing.processes import PluginProcess, clean_environment
from fuseml_sdk.testing.rules import Trait
from fuseml_sdk.testing.served import ServedPlugin

#: Seconds in which a plugin has to answer, or to say why it does not.
START_SECONDS = 60.0
#: Names of the hosts of Python plugins.
HOSTS = ("in-process", "subprocess", "asgi", "address")
#: Seconds that a plugin gets to finish its calls in tests.
DRAIN_SECONDS = 10.0


class Host(Protocol):
    """A way to run a plugin."""

    @property
    def name(self) -> str:
        """As in test ids and scorecards."""

    @property
    def traits(self) -> frozenset[Trait]:
        """What rules may ask of it."""

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """Start the plugin.

        Args:
            folder: `state` in it is the state directory; what lies there from a former start is found again.
            config: Given to `fuseml_configure`.

        Raises:
            Internal: It does not start; the message holds what it wrote.
        """


@dataclass(frozen=True)
class InProcessHost:
    """The plugin in this process; every call passes through the bytes of the wire."""

    plugin: str
    name: str = "in-process"
    traits: frozenset[Trait] = frozenset({"restart"})

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """See :class:`Host`."""
        from fuseml_sdk.serve.application import Application
        from fuseml_sdk.serve.wire import Request

        state = state_of(folder)
        application = Application(self.plugin, Configuration(json.loads(json.dumps(dict(config))), str(state)))

        def respond(method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                    seconds: float) -> Answer:  # noqa: ARG001
            lower = {name.lower(): value for name, value in headers.items()}
            response = application.respond(Request(method, path, lower, body or b""))
            return Answer(response.status, response.body, {"content-type": response.media_type, **response.headers})

        return ServedPlugin(self.name, ThreadExchange(respond), state, close=application.close)


@dataclass(frozen=True)
class SubprocessHost:
    """The plugin in a process of its own, started as a server starts it."""

    plugin: str
    name: str = "subprocess"
    traits: frozenset[Trait] = frozenset({"process", "restart", "python"})
    command: tuple[str, ...] = ("-m", "fuseml_sdk.serve")
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """See :class:`Host`."""
        state = state_of(folder)
        # A short path, because the address of a Unix socket has room for about a hundred characters.
        short = Path(tempfile.mkdtemp(prefix="fz-"))
        log = folder / "plugin.log"
        settings = {"config": dict(config), "state_dir": str(state), "drain_seconds": DRAIN_SECONDS}
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(short / "p.sock"))
        listener.listen(64)
        with log.open("ab") as output:
            process = PluginProcess([sys.executable, *self.command, self.plugin],
                                    {**clean_environment(state), **self.environment}, json.dumps(settings).encode(),
                                    output.fileno(), listener)

        def close() -> None:
            process.stop()
            listener.close()
            shutil.rmtree(short, ignore_errors=True)

        served = ServedPlugin(self.name, HttpExchange(f"unix:{short / 'p.sock'}"), state, log, process, close)
        try:
            _wait_for(served)
        except BaseException:
            close()
            raise
        return served


@dataclass(frozen=True)
class AddressHost:
    """A plugin that somebody else runs, in whatever language.

    Attributes:
        address: `unix:/path`, `http://host:port` or `https://host:port`.
        token: Sent as bearer token.
    """

    address: str
    token: str = field(default="", repr=False)
    name: str = "address"
    traits: frozenset[Trait] = frozenset()

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """See :class:`Host`; the configuration is not sent, for its owner has configured it."""
        del config
        return ServedPlugin(self.name, HttpExchange(self.address, self.token), state_of(folder))


def default_hosts(plugin: str) -> tuple[Host, ...]:
    """Every host of a Python plugin that needs no web server; only `subprocess` if its object cannot be made again."""
    names = ("in-process", "subprocess", *_asgi()) if renewable(plugin) else ("subprocess",)
    return tuple(host_named(name, plugin) for name in names)


def renewable(plugin: str) -> str:
    """The address by which each start gets an object of its own: that of the class, also for a module's object.

    Returns:
        An address; empty if the object's class cannot be made without arguments.
    """
    try:
        found = load(plugin)
    except Exception:
        return plugin  # Each host then tells why.
    made = type(found)
    address = f"{made.__module__}:{made.__qualname__}"
    try:
        return address if type(load(address)) is made else ""
    except Exception:
        return ""


def host_named(name: str, plugin: str) -> Host:
    """The host of a name.

    Raises:
        InvalidInput: There is no such host.
    """
    if name == "in-process":
        return InProcessHost(renewable(plugin) or plugin)
    if name == "subprocess":
        return SubprocessHost(plugin)
    if name == "asgi" and _asgi():
        made: Host = importlib.import_module("fuseml_sdk.testing.asgi_host").AsgiHost(renewable(plugin) or plugin)
        return made
    if name == "address":
        served: Host = importlib.import_module("fuseml_sdk.testing.tcp_host").TcpHost(plugin)
        return served
    raise InvalidInput(f"there is no host {name!r}", hint=f"Hosts are {', '.join(HOSTS)}.")


def _asgi() -> tuple[str, ...]:
    found = importlib.util.find_spec("fuseml_sdk.serve.asgi") and importlib.util.find_spec(
        "fuseml_sdk.testing.asgi_host")
    return ("asgi",) if found else ()


def state_of(folder: Path) -> Path:
    """The state directory of a start over a folder."""
    state = folder / "state"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state


def _wait_for(served: ServedPlugin) -> None:
    """Wait until it answers: the kernel queues the question until it does."""
    process = served.process
    until = time.monotonic() + START_SECONDS
    while process is not None and process.poll() is None and time.monotonic() < until:
        try:
            served.exchange("GET", "/healthz", None, {}, 1.0)
        except OSError:
            continue
        return
    raise Internal(f"the plugin process did not start: {served.written()[-4000:]}")
