"""How a served plugin gets its configuration: by a private file or by standard input, never by arguments."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseml_sdk.errors import InvalidInput

#: Environment variable that names the file; without it the configuration is read from standard input.
FILE_VARIABLE = "FUSEML_PLUGIN_CONFIG"


@dataclass(frozen=True)
class Configuration:
    """What a plugin is started with.

    Attributes:
        config: Passed to `fuseml_configure`; may hold secrets, so it is never shown.
        state_dir: Absolute path of a private directory that survives restarts; the working directory of the process.
        drain_seconds: How long calls in flight may take after SIGTERM.
    """

    config: dict[str, Any] = field(default_factory=dict, repr=False)
    state_dir: str = field(default_factory=os.getcwd)
    drain_seconds: float = 30.0


def read() -> Configuration:
    """Read the configuration of this process: JSON with `config`, `state_dir` and `drain_seconds`.

    Raises:
        InvalidInput: The file can be read by others, or its contents are not such JSON.
    """
    name = os.environ.pop(FILE_VARIABLE, "")
    if name:
        path = Path(name)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidInput(f"{name} can be read by others", hint=f"Run: chmod 600 {name}")
        return parse(path.read_bytes(), name)
    if sys.stdin is None or sys.stdin.isatty():
        return Configuration()
    return parse(sys.stdin.buffer.read(), "standard input")


def parse(text: bytes, source: str) -> Configuration:
    """Make a configuration of JSON; empty text gives the default one.

    Raises:
        InvalidInput: It is not a JSON object, or a member has the wrong type; values are not repeated.
    """
    if not text.strip():
        return Configuration()
    try:
        document = json.loads(text)
        state = Path(document.get("state_dir") or ".").absolute()
        configuration = Configuration(dict(document.get("config") or {}), str(state),
                                      float(document.get("drain_seconds", 30.0)))
    except (ValueError, TypeError, AttributeError):
        raise InvalidInput(f"the configuration in {source} is not the JSON object that is expected",
                           hint='Write {"config": {…}, "state_dir": "/…", "drain_seconds": 30}.') from None
    return configuration
