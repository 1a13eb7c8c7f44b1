"""Finding and calling `uv`, and saying in FuseML's errors what went wrong."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from fuseml_sdk.environments.index import IndexSettings
from fuseml_sdk.errors import InvalidInput, NotReady, Permanent, PluginError, Retryable

#: Longest explanation of uv that is repeated in an error, in characters.
_EXPLANATION = 1500
_NETWORK = re.compile(r"error sending request|dns error|connection (refused|reset)|timed out|tcp connect|"
                      r"failed to fetch|request failed|HTTP status (server error|client error \(429)|"
                      r"network is unreachable|temporary failure in name resolution", re.IGNORECASE)
_NOT_CACHED = re.compile(r"network was disabled|network connectivity is disabled|not found in the cache", re.IGNORECASE)
_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def find_uv() -> Path:
    """Return the `uv` executable: `FUSEML_UV`, the one of the Python package `uv`, or the one on PATH.

    Raises:
        NotReady: There is none.
    """
    wanted = os.environ.get("FUSEML_UV", "")
    if wanted:
        if os.access(wanted, os.X_OK):
            return Path(wanted)
        raise NotReady(f"FUSEML_UV names {wanted}, which is not an executable", hint="Correct or unset it.")
    try:
        import uv

        return Path(uv.find_uv_bin())
    except (ImportError, FileNotFoundError, AttributeError):
        found = shutil.which("uv")
    if not found:
        raise NotReady("the executable `uv` was not found", hint="Install it (`pip install uv`), put it on PATH, or "
                       "name it in FUSEML_UV.")
    return Path(found)


def run_uv(arguments: list[str], *, index: IndexSettings, timeout: float, stdin: str | None = None,
           keep_open: tuple[int, ...] = (), uv: Path | None = None) -> str:
    """Call uv in an empty directory, so that no project's settings leak in, and return its standard output.

    Args:
        arguments: Everything after `uv`.
        index: How to reach a package index.
        timeout: Seconds.
        stdin: Text on standard input.
        keep_open: Descriptors the child inherits, such as a lock it shall hold until it ends.
        uv: The executable; found by default.

    Raises:
        InvalidInput: uv refuses what it was given, with its explanation.
        Retryable: The index could not be reached, or it took too long.
        NotReady: Offline, and something needed is not in the cache.
        Permanent: The disk is full.
    """
    command = [str(uv or find_uv()), *arguments, "--color", "never", "--no-progress"]
    with tempfile.TemporaryDirectory(prefix="fuseml-uv-") as empty:
        try:
            done = subprocess.run(command, input=stdin if stdin is not None else "", capture_output=True, text=True,
                                  env=_environment(index), cwd=empty, timeout=timeout, check=False,
                                  pass_fds=keep_open, errors="replace")
        except subprocess.TimeoutExpired:
            raise Retryable(f"`uv {' '.join(arguments[:2])}` did not finish within {timeout:.0f} s",
                            hint="Check the connection to the package index.") from None
        except OSError as error:
            raise explain_os_error(error, f"`uv {' '.join(arguments[:2])}` could not be started") from error
    if done.returncode:
        raise explain(done.stderr, " ".join(a for a in arguments[:2] if not a.startswith("-")))
    return done.stdout


def explain(stderr: str, what: str) -> PluginError:
    """Turn what uv wrote on standard error into the error that says what the caller should do."""
    text = _shorten(_CREDENTIALS.sub("***@", stderr))
    if _DISK_FULL.search(stderr):
        return Permanent(f"the disk is full: uv {what}: {text}", hint="Free space where FUSEML_HOME and the uv cache "
                         "lie (`uv cache prune`), then try again.")
    if _NOT_CACHED.search(stderr):
        return NotReady(f"offline, and not everything needed is at hand: {text}",
                        hint="Go online once, or name an index that can be reached in FUSEML_INDEX_URL.")
    if _NETWORK.search(stderr):
        return Retryable(f"the package index could not be reached: {text}",
                         hint="Check FUSEML_INDEX_URL, FUSEML_PROXY and FUSEML_CA_BUNDLE.")
    if "No solution found" in stderr:
        return InvalidInput(f"the requirements cannot be satisfied: {text}",
                            hint="Relax or correct the requirement that the explanation names.")
    return InvalidInput(f"uv {what} refused the requirements: {text}",
                        hint="Correct the requirements or the lock file.")


def explain_os_error(error: OSError, what: str) -> PluginError:
    """Turn an operating system error into one that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Permanent(f"the disk is full: {what}", hint="Free space where FUSEML_HOME lies, then try again.")
    return Permanent(f"{what}: {error}")


def _environment(index: IndexSettings) -> dict[str, str]:
    """What uv sees: how to find its cache and the network, compilers for source distributions, nothing else."""
    names = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
             "XDG_DATA_HOME", "CC", "CXX", "CFLAGS", "LDFLAGS", "UV_LINK_MODE", "UV_CONCURRENT_DOWNLOADS")
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    found.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return found | index.variables() | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_WRAP": "1"}


def _shorten(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Using Python")]
    joined = " ".join(line.removeprefix("error: ").removeprefix("cause: ") for line in lines)
    return joined if len(joined) <= _EXPLANATION else joined[:_EXPLANATION] + " …"
