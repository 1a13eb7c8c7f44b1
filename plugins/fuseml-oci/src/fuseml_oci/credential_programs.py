"""Programs that keep passwords for Docker: `docker-credential-NAME`, spoken to by standard input and output.

Protocol: docker/docker-credential-helpers, "Usage". Passwords never appear among the arguments.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Literal

from fuseml_sdk.errors import InvalidInput, NotFound, NotReady

#: Seconds after which a program that does not answer is stopped; some ask a person.
TIMEOUT = 30.0
#: Answer of a program that has nothing for a server.
NO_CREDENTIALS: dict[str, Any] = {}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOTHING = "credentials not found in native keychain"
_MAX_ANSWER = 1 << 20


def ask_program(name: str, action: Literal["get", "store", "erase"], text: str, env: Mapping[str, str] | None = None, *,
                timeout: float = TIMEOUT) -> dict[str, Any]:
    """Run a credential program.

    Args:
        name: What follows `docker-credential-`, such as `pass`.
        action: What it shall do.
        text: The server's name, or for `store` a JSON object.
        env: Its environment; that of the process by default.
        timeout: Seconds to wait.

    Returns:
        For `get` its answer, empty if it has nothing; else nothing.

    Raises:
        NotFound: There is no such program.
        InvalidInput: The name is no name, or the answer no JSON object.
        NotReady: It failed or does not answer.
    """
    command = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is not the name of a credential program")
    env = os.environ if env is None else env
    path = shutil.which(command, path=env.get("PATH"))
    if path is None:
        raise NotFound(f"the credential program {command} is not on PATH",
                       hint="Install it, or take it out of credHelpers of the file that names it.")
    try:
        done = subprocess.run([path, action], input=text.encode(), capture_output=True, timeout=timeout, check=False,
                              env=dict(env))
    except subprocess.TimeoutExpired:
        raise NotReady(f"{command} {action} has not answered within {timeout:g} s") from None
    except OSError as error:
        raise NotReady(f"{command} cannot be run: {error.strerror}") from None
    if done.returncode:
        told = (done.stdout + done.stderr).decode(errors="replace").strip()
        if _NOTHING in told and action != "store":
            return NO_CREDENTIALS
        raise NotReady(f"{command} {action} failed with exit code {done.returncode}",
                       hint="Run it by hand to see why; what it said may contain secrets and is not shown.")
    return _answer(done.stdout, command) if action == "get" else NO_CREDENTIALS


def _answer(output: bytes, command: str) -> dict[str, Any]:
    try:
        answer = json.loads(output[:_MAX_ANSWER])
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise InvalidInput(f"{command} get did not answer with a JSON object")
    return answer
