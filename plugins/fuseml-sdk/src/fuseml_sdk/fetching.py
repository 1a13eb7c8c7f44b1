"""Fetching what a store hands out: from the location of an artifact to a folder or file on this machine.

Workload agents use it for the contents and inputs of a workload. It needs `git` for codesets and imports nothing but
the standard library, so that supervisors of workloads can use it, too.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, PluginError, Retryable

#: Schemes of locations that can be fetched, preferred first; what `agent_describe().schemes` may list.
SCHEMES = ("file", "git+file", "git+http", "git+https")
#: Seconds that fetching one artifact may take.
TIMEOUT = 600.0
_COMMIT = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_NETWORK = frozenset({"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE"})


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched.

    Attributes:
        path: Where it lies: the place that was asked for, or that of a `file:` location which is used where it is.
        warnings: What is missing in it, for people; such as submodules, which are left empty.
    """

    path: Path
    warnings: tuple[str, ...] = ()


def fetch(uri: str, target: Path, *, headers: Mapping[str, str] | None = None, private: bool = False,
          environment: Mapping[str, str] | None = None, timeout: float = TIMEOUT) -> Fetched:
    """Bring the contents behind a location to this machine; whole, or not at all.

    `file:` is used where it lies, read-only by agreement, unless it is wanted privately. `git+file:`, `git+http:` and
    `git+https:` with `?commit=<full id>` are the files of one commit, without the repository; nothing that the
    repository brings is executed.

    Args:
        uri: `Location.uri`, as a store hands it out.
        target: Where to; must not exist, its folder must.
        headers: `Location.headers`, the credentials; they appear in no argument of a program and in no error.
        private: Also copy what lies on this machine, because it will be changed.
        environment: Variables that say how to reach the network; by default those of this process.
        timeout: Seconds for each step.

    Returns:
        Where it lies now.

    Raises:
        InvalidInput: The scheme is none of :data:`SCHEMES`, a commit is not a full id, or something there is neither
            file nor folder.
        NotFound: There is no such file, repository or commit.
        Retryable: The server of a repository did not answer, or not in time.
        Permanent: The program `git` is not installed.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Fetched(_file(Path(unquote(parts.path)), target, private))
    if parts.scheme not in SCHEMES:
        raise InvalidInput(f"{parts.scheme}: locations cannot be fetched here",
                           hint=f"What can be fetched: {', '.join(SCHEMES)}.")
    commit = (parse_qs(parts.query).get("commit") or [""])[0]
    if not _COMMIT.match(commit):
        raise InvalidInput(f"{commit!r} is not the full id of a commit", hint="Ask the store for the location again.")
    scratch = target.with_name(f".{target.name}.fetching")
    _clear(scratch)  # of an attempt that was killed
    scratch.mkdir()
    try:
        git = _Git(scratch, _network() if environment is None else environment, timeout)
        if parts.scheme == "git+file":
            name = git.borrow(Path(unquote(parts.path)), commit)
        else:
            name = git.download(_plain(parts), commit, headers or {})
        warnings = git.check_out(commit, scratch / "contents", name)
        (scratch / "contents").rename(target)
    finally:
        _clear(scratch)
    return Fetched(target, tuple(warnings))


class _Git:
    """Runs git in a repository of its own: without configuration, hooks, filters, helpers and questions.

    Whoever owns another repository may have configured programs in it, which git would run for whoever reads it.

    Args:
        scratch: Folder for the index and the repository.
        network: Environment variables that say how to reach the network.
        timeout: Seconds that each command may take.
    """

    def __init__(self, scratch: Path, network: Mapping[str, str], timeout: float) -> None:
        self._scratch, self._timeout = scratch, timeout
        self._repository = scratch / "repository"
        self._environment = {
            **network, "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"), "HOME": str(scratch),
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:http:https", "GIT_OPTIONAL_LOCKS": "0", "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(scratch), "LC_ALL": "C",
        }

    def check_out(self, commit: str, target: Path, name: str) -> list[str]:
        """Write the files of a commit to a new folder; returns warnings. `name` is that of where it comes from."""
        target.mkdir()
        variables = {"GIT_INDEX_FILE": str(self._scratch / "index")}
        place = [f"--git-dir={self._repository}", f"--work-tree={target}"]
        self._run([*place, "read-tree", commit], variables, NotFound(f"commit {commit[:12]} is not in {name}"))
        self._run([*place, "checkout-index", "--all", "--force"], variables, Permanent(
            f"commit {commit[:12]} cannot be checked out"))
        listing = self._run([*place, "ls-files", "--stage", "-z"], variables, Permanent("the files cannot be listed"))
        modules = [entry.split("\t", 1)[1] for entry in listing.split("\0") if entry.startswith("160000 ")]
        return [f"the submodule {name} was left empty: submodules are not fetched" for name in modules]

    def borrow(self, repository: Path, commit: str) -> str:
        """Have the objects of a repository on this machine; returns its name."""
        objects = repository / "objects"
        if not objects.is_dir():
            raise NotFound(f"there is no repository at {repository}")
        self._make(commit)
        # Nothing else of it is read. One path in a line; git(1) reads one that begins with a quotation mark as quoted.
        (self._repository / "objects/info").mkdir(exist_ok=True)
        quoted = str(objects.resolve()).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        (self._repository / "objects/info/alternates").write_text(f'"{quoted}"\n', encoding="utf-8")
        return repository.name

    def download(self, url: str, commit: str, headers: Mapping[str, str]) -> str:
        """Fetch a commit over HTTP; returns the name of where it comes from."""
        pairs = [(f"http.{url}.extraHeader", f"{name}: {value}") for name, value in headers.items()]
        variables = {"GIT_CONFIG_COUNT": str(len(pairs))}
        for number, (key, value) in enumerate(pairs):
            variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        self._make(commit)
        command = [f"--git-dir={self._repository}", "fetch", "--quiet", "--no-tags"]
        failure = Retryable(f"{url} could not be fetched")
        try:
            self._run([*command, "--depth=1", url, commit], variables, failure)
        except Retryable:
            # Some servers hand out tips only.
            self._run([*command, url, "+refs/*:refs/*"], variables, failure)
        return self._repository.name

    def _make(self, commit: str) -> None:
        form = ["--object-format=sha256"] if len(commit) == 64 else []
        self._run(["init", "--quiet", "--bare", "--template=", *form, str(self._repository)], {},
                  Permanent("no repository could be made"))

    def _run(self, arguments: list[str], variables: Mapping[str, str], failure: PluginError) -> str:
        command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", *arguments]
        try:
            done = subprocess.run(command, env={**self._environment, **variables}, capture_output=True,
                                  timeout=self._timeout, check=False, stdin=subprocess.DEVNULL, cwd=self._scratch)
        except FileNotFoundError:
            raise Permanent("the program `git` is not installed on this machine", hint="Install git.") from None
        except subprocess.TimeoutExpired:
            raise Retryable(f"{failure.message}: git did not finish within {self._timeout:g} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise type(failure)(f"{failure.message}: {said}")
        return done.stdout.decode(errors="replace")


def _network() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _NETWORK or name.lower().endswith("_proxy")}


def _plain(parts: SplitResult) -> str:
    """The address of the repository itself."""
    return parts._replace(scheme=parts.scheme.removeprefix("git+"), query="", fragment="").geturl()


def _file(source: Path, target: Path, private: bool) -> Path:
    if not source.exists():
        raise NotFound(f"{source} does not exist")
    if not private:
        return source
    import shutil  # slow to import, seldom needed

    try:
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_copy)
        else:
            _copy(str(source), str(target))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def _copy(source: str, target: str) -> None:
    if not Path(source).is_symlink() and not Path(source).is_file():
        raise InvalidInput(f"{source} is neither file nor directory")
    import shutil

    shutil.copy2(source, target, follow_symlinks=False)


def _clear(scratch: Path) -> None:
    with contextlib.suppress(OSError):
        (scratch / "index").unlink()
    try:
        scratch.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)
