"""Running the git executable: never interactive, never with anybody's configuration, never without a time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fuseml_sdk.errors import NotReady, Permanent, Retryable

TIMEOUT = 120.0
#: Directory below the root that git sees as HOME.
PRIVATE_HOME = ".home"


class GitFailed(Exception):
    """A git command ended with an error; the text is what it wrote to standard error."""


def executable() -> str:
    """Path of git.

    Raises:
        NotReady: It is not installed.
    """
    found = shutil.which("git")
    if not found:
        raise NotReady("git is not installed", hint="Install git and make sure that it is in PATH.")
    return found


def environment(root: Path) -> dict[str, str]:
    """Environment variables for git and its hooks.

    Args:
        root: The store's directory; HOME is a private directory below it.
    """
    home = root / PRIVATE_HOME
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "false", "SSH_ASKPASS": "false",
        "GIT_DEFAULT_REF_FORMAT": "files", "GIT_OPTIONAL_LOCKS": "0",
    }


def git(root: Path, repository: Path, *arguments: str, stdin: bytes = b"", timeout: float = TIMEOUT) -> bytes:
    """Run git in a bare repository and return its standard output.

    Args:
        root: The store's directory.
        repository: The repository; it need not exist for `init`.
        arguments: Git's arguments.
        stdin: What git reads.
        timeout: Seconds.

    Raises:
        GitFailed: Git said no.
        Retryable: Git did not end in time and was killed.
        Permanent: Git could not be started.
    """
    command: Sequence[str] = [executable(), f"--git-dir={repository}", *arguments]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment(root), cwd=root, start_new_session=True)
    except OSError as error:
        raise Permanent(f"git cannot be started: {error}") from None
    with process:
        try:
            output, errors = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Retryable(f"git {arguments[0]} did not end within {timeout:.0f} s") from None
    if process.returncode:
        raise GitFailed(errors.decode("utf-8", "replace").strip())
    return output
