"""Checking out one commit of a codeset, privately and without executing anything that the repository brings."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fuseml_process.shim.failures import StepFailed

_COMMIT = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_TIMEOUT = 600.0


class Checkout:
    """Checks out commits below one workload's directory.

    Args:
        scratch: Private directory for the index, and for objects fetched over HTTP.
        network: Environment variables that say how to reach the network.
    """

    def __init__(self, scratch: Path, network: Mapping[str, str]) -> None:
        self._scratch = scratch
        self._base = {
            **network, "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"), "HOME": str(scratch),
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:http:https", "GIT_OPTIONAL_LOCKS": "0", "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(scratch), "LC_ALL": "C",
        }

    def from_repository(self, repository: Path, commit: str, target: Path) -> list[str]:
        """Write the files of a commit to `target`; returns warnings.

        Raises:
            StepFailed: There is no such repository or commit.
        """
        if not _COMMIT.match(commit):
            raise StepFailed("Staging", f"{commit!r} is not the full id of a commit")
        if not repository.is_dir():
            raise StepFailed("Staging", f"there is no repository at {repository}")
        target.mkdir(parents=True)
        variables = {"GIT_INDEX_FILE": str(self._scratch / f"index-{target.name}")}
        place = [f"--git-dir={repository}", f"--work-tree={target}"]
        self._git([*place, "read-tree", commit], variables, f"commit {commit[:12]} is not in {repository.name}")
        self._git([*place, "checkout-index", "--all", "--force"], variables,
                  f"commit {commit[:12]} cannot be checked out")
        listing = self._git([*place, "ls-files", "--stage", "-z"], variables, "the files cannot be listed")
        modules = [entry.split("\t", 1)[1] for entry in listing.split("\0") if entry.startswith("160000 ")]
        return [f"the submodule {name} was left empty: submodules are not fetched" for name in modules]

    def from_url(self, url: str, commit: str, target: Path, headers: Mapping[str, str]) -> list[str]:
        """Fetch a commit over HTTP and write its files to `target`; returns warnings.

        Args:
            url: Of the repository.
            commit: Full id.
            target: Must not exist.
            headers: Credentials; they reach git by its environment, never by its arguments.
        """
        repository = self._scratch / f"fetched-{target.name}.git"
        pairs = [(f"http.{url}.extraHeader", f"{name}: {value}") for name, value in headers.items()]
        variables = {"GIT_CONFIG_COUNT": str(len(pairs))}
        for number, (key, value) in enumerate(pairs):
            variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        self._git(["init", "--quiet", "--bare", str(repository)], {}, "no repository could be made")
        fetch = [f"--git-dir={repository}", "fetch", "--quiet", "--no-tags"]
        try:
            self._git([*fetch, "--depth=1", url, commit], variables, "")
        except StepFailed:
            # Some servers hand out tips only.
            self._git([*fetch, url, "+refs/*:refs/*"], variables, f"{url} could not be fetched")
        return self.from_repository(repository, commit, target)

    def _git(self, arguments: list[str], variables: Mapping[str, str], problem: str) -> str:
        command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
        try:
            done = subprocess.run(command, env={**self._base, **variables}, capture_output=True, timeout=_TIMEOUT,
                                  check=False, stdin=subprocess.DEVNULL, cwd=self._scratch)
        except FileNotFoundError:
            raise StepFailed("Staging", "the program `git` is not installed on the server") from None
        except subprocess.TimeoutExpired:
            raise StepFailed("Staging", f"{problem}: git did not finish within {_TIMEOUT:g} s") from None
        if done.returncode:
            raise StepFailed("Staging", f"{problem}: {done.stderr.decode(errors='replace').strip()[-500:]}")
        return done.stdout.decode(errors="replace")
