"""For plugin authors: run a plugin as the server would, and check that it keeps to the contract.

```python
from fuseml_sdk.testing import findings, serving

def test_my_store_keeps_to_the_contract(tmp_path):
    assert findings("my_store.plugin:plugin", tmp_path, {"endpoint": "http://127.0.0.1:9000"}) == []

def test_my_store_finds_nothing_at_first(tmp_path):
    with serving("my_store.plugin:plugin", tmp_path) as plugin:
        assert plugin.call("store_search", query=StoreQuery()).items == []
```

Everything passes through a process of its own and a real socket, so what works here works in a server.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from fuseml_sdk import problems
from fuseml_sdk.contract import frozen, operations
from fuseml_sdk.errors import Internal, PluginError
from fuseml_sdk.hookspecs import FAMILIES, PROTOCOL
from fuseml_sdk.types import StoreCapability

_START_SECONDS, _CALL_SECONDS, _STOP_SECONDS = 60.0, 60.0, 10.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("plugin", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ServedPlugin:
    """A plugin in a process of its own; made by :func:`serving`.

    Attributes:
        process: The process, for tests that signal it.
        log: File with everything that it writes.
    """

    def __init__(self, process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
        self.process = process
        self.log = log
        self._path = path

    def describe(self) -> dict[str, Any]:
        """What `/v1/describe` answers."""
        document: dict[str, Any] = json.loads(self._ask("GET", f"/v{PROTOCOL}/describe", None))
        return document

    def call(self, hook: str, /, **arguments: Any) -> Any:
        """Call a hook and return its result as the type in the hookspec.

        Raises:
            PluginError: What the plugin raised, as the server would see it.
        """
        operation = operations()[hook]
        body = operation.encode_arguments(operation.check_arguments(arguments))
        return operation.decode_result(self._ask("POST", operation.route, body))

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = _Connection(self._path)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Internal(f"the plugin went away: {error}", details={"log": self.log.read_text()}) from None
        finally:
            connection.close()
        if response.status != 200:
            raise problems.from_problem(json.loads(text))
        return text


@contextmanager
def serving(address: str, folder: Path, config: Mapping[str, Any] | None = None) -> Iterator[ServedPlugin]:
    """Serve a plugin while the block runs.

    Args:
        address: `module:attribute`; anything that can be imported here can be served.
        folder: Empty directory for state, log and configuration, such as pytest's `tmp_path`.
        config: Given to `fuseml_configure`.

    Raises:
        Internal: The process did not start; the message holds what it wrote.
    """
    # A short path, because the address of a Unix socket has room for about a hundred characters.
    short = Path(tempfile.mkdtemp(prefix="fz-"))
    log = folder / "plugin.log"
    settings = folder / "plugin.json"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps({"config": dict(config or {}), "state_dir": str(folder / "state")}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                   "FUSEML_PLUGIN_CONFIG": str(settings)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fuseml_sdk.serve", address, "--socket", str(short / "p.sock")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        _wait_for(process, short / "p.sock", log)
        yield ServedPlugin(process, short / "p.sock", log)
    finally:
        _stop(process)
        shutil.rmtree(short)


def findings(address: str, folder: Path, config: Mapping[str, Any] | None = None) -> list[str]:
    """Check what can be checked of any plugin, and say in sentences what is wrong; empty means all is well.

    It starts, implements at least one family, describes itself, offers exactly the optional hooks it declares,
    answers readiness, and ends in order when asked to.

    Args:
        address: `module:attribute` of the plugin object.
        folder: Empty directory.
        config: Given to `fuseml_configure`.
    """
    with serving(address, folder, config) as plugin:
        description = plugin.describe()
        if description["failure"]:
            return [f"The plugin does not start: {description['failure']['detail']}"]
        hooks = set(description["hooks"])
        prefixes = {name.partition("_")[0] for name in hooks} - {"fuseml"}
        present = [family for family in FAMILIES if family in prefixes]
        found = [] if present else ["The plugin implements no hook of a store, an agent or a builder."]
        if description["contract_digest"] != frozen()["digest"]:
            found.append("The plugin's environment holds another version of the contract than this one.")
        for family in present:
            found += _family_findings(plugin, family, hooks)
        plugin.process.terminate()
        try:
            code = plugin.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            found.append(f"The plugin does not end in order after SIGTERM (exit code {code}); see {plugin.log}.")
    return found


def _family_findings(plugin: ServedPlugin, family: str, hooks: set[str]) -> list[str]:
    optional = {f"store_{name}" for name in get_args(StoreCapability)} if family == "store" else set()
    required = {name for name, each in operations().items() if each.family == family} - optional
    missing = required - hooks
    found = [f"{name} is missing; every {family} needs it." for name in sorted(missing)]
    if f"{family}_describe" in missing:
        return found
    try:
        description = plugin.call(f"{family}_describe")
    except PluginError as error:
        return [*found, f"{family}_describe fails: {error}"]
    declared = {f"store_{name}" for name in getattr(description, "capabilities", ())} if family == "store" else set()
    offered = optional & hooks
    found += [f"{name} is declared in capabilities but not implemented." for name in sorted(declared - offered)]
    found += [f"{name} is implemented but not declared in capabilities." for name in sorted(offered - declared)]
    return found


def _wait_for(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    raise Internal(f"the plugin process did not start: {log.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
