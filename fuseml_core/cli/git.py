"""Running git: never a prompt, never a hook of the user, always a time limit, deaf to the user's GIT_*."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_core.domain.errors import Failed, Unavailable

#: Seconds that a call on the local disk may take.
LOCAL = 300.0
#: Seconds that a transfer may take; a stalled one is given up after a minute (`http.lowSpeedTime`).
TRANSFER = 3600.0
#: Variables of the user that choose certificates, configuration files and tracing; all other GIT_* are dropped,
#: because GIT_DIR or GIT_INDEX_FILE (set inside hooks, for instance) would direct our calls to another repository.
KEPT = ("GIT_CONFIG", "GIT_SSL", "GIT_TRACE", "GIT_EXEC_PATH", "GIT_CURL_VERBOSE")
#: Settings that keep a user's configuration from changing what is pushed, or from asking.
SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=false", "credential.helper=",
            "push.gpgSign=false", "push.followTags=false", "push.recurseSubmodules=no", "protocol.version=2",
            "gc.auto=0", "maintenance.auto=false", "http.lowSpeedLimit=1", "http.lowSpeedTime=60")


@dataclass(frozen=True, slots=True)
class Git:
    """Git in a directory.

    Attributes:
        directory: Working directory of the calls.
        variables: Environment variables on top of the cleaned ones, such as GIT_DIR.
        settings: Further `name=value` settings.
    """

    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()

    def try_(self, *arguments: str, stdin: bytes = b"", timeout: float = LOCAL) -> subprocess.CompletedProcess[bytes]:
        """Run git and return what it did, whatever the outcome.

        Args:
            arguments: After `git`.
            stdin: Bytes for its standard input.
            timeout: Seconds until it is stopped.

        Raises:
            Unavailable: Git is not installed, or took too long.
        """
        command = ["git", *(part for setting in (*SETTINGS, *self.settings) for part in ("-c", setting)), *arguments]
        try:
            return subprocess.run(command, cwd=self.directory, env=self._environment(), input=stdin, check=False,
                                  capture_output=True, timeout=timeout)
        except FileNotFoundError:
            if not self.directory.is_dir():
                raise
            raise Unavailable("git is not installed or not on PATH.", hint="Install git 2.30 or later.") from None
        except subprocess.TimeoutExpired:
            raise Unavailable(f"git {arguments[0]} did not end within {timeout:.0f} s.") from None

    def run(self, *arguments: str, stdin: bytes = b"", timeout: float = LOCAL) -> bytes:
        """Run git and return its standard output.

        Raises:
            Failed: It ended with an error; the message has its last lines.
            Unavailable: Git is not installed, or took too long.
        """
        done = self.try_(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise Failed(f"git {arguments[0]} failed: {last_lines(done.stderr) or f'exit code {done.returncode}'}")
        return done.stdout

    def line(self, *arguments: str) -> str:
        """The first line that git prints."""
        return os.fsdecode(self.run(*arguments)).split("\n", 1)[0]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(KEPT)}
        return {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false",
                "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "0", "LC_ALL": "C", **self.variables}


def last_lines(output: bytes, count: int = 5) -> str:
    """The end of what git wrote, without its advice."""
    lines = [line.rstrip() for line in os.fsdecode(output).splitlines()]
    return "\n".join([line for line in lines if line and not line.startswith("hint:")][-count:])
