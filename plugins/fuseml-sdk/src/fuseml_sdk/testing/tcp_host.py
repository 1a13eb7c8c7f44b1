"""The host `address` of a Python plugin: served on a TCP port with a bearer token, as one that runs elsewhere."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_sdk.errors import Internal
from fuseml_sdk.testing.exchanges import HttpExchange
from fuseml_sdk.testing.hosts import DRAIN_SECONDS, START_SECONDS, state_of
from fuseml_sdk.testing.processes import clean_environment
from fuseml_sdk.testing.rules import Trait
from fuseml_sdk.testing.served import ServedPlugin

#: What the server writes when it listens.
_SERVING = re.compile(r"^serving .+ at (http://\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class TcpHost:
    """The plugin behind `python -m fuseml_sdk.serve --asgi`; needs uvicorn, which `fuseml-sdk[asgi]` brings."""

    plugin: str
    name: str = "address"
    traits: frozenset[Trait] = frozenset({"restart"})

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """See :class:`fuseml_sdk.testing.hosts.Host`."""
        state, log, token = state_of(folder), folder / "plugin.log", folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(16), encoding="utf-8")
        settings = folder / "settings.json"
        settings.touch(mode=0o600)
        settings.write_text(json.dumps({"config": dict(config), "state_dir": str(state),
                                        "drain_seconds": DRAIN_SECONDS}), encoding="utf-8")
        command = [sys.executable, "-m", "fuseml_sdk.serve", self.plugin, "--asgi", "127.0.0.1:0",
                   "--token-file", str(token)]
        with settings.open("rb") as given, log.open("wb") as output:
            process = subprocess.Popen(command, stdin=given, stdout=output, stderr=output, env=clean_environment(state))
        settings.unlink()

        def close() -> None:
            process.terminate()
            try:
                process.wait(2 * DRAIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        try:
            address = _address(process, log)
        except BaseException:
            close()
            raise
        exchange = HttpExchange(address, token.read_text(encoding="utf-8"))
        return ServedPlugin(self.name, exchange, state, log, close=close)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it says where it listens."""
    until = time.monotonic() + START_SECONDS
    while True:
        written = log.read_text(encoding="utf-8", errors="replace")
        if found := _SERVING.search(written):
            return found[1]
        if process.poll() is not None or time.monotonic() > until:
            raise Internal(f"the plugin does not serve: {written[-4000:]}")
        time.sleep(0.02)
