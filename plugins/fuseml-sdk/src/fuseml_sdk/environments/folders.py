"""The folder of environments: content-addressed, immutable, safe under concurrent builders and `kill -9`.

A virtual environment cannot be moved, so it is built where it will stay, under a file lock, and a marker
written last makes it valid. A build that was killed leaves no marker; the next builder starts afresh. The lock is
inherited by uv, so it stays held until the last process that writes there has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuseml_sdk.durable import write_durably
from fuseml_sdk.environments.index import IndexSettings
from fuseml_sdk.environments.pythons import Interpreter, inspect_python
from fuseml_sdk.environments.tool import explain_os_error, run_uv
from fuseml_sdk.errors import InvalidInput, NotReady, Retryable

MARKER = ".complete"
_STAMP = "last-used"
#: Folder with an empty file for each runnable or model that used the environment.
_USERS = ".used-by"
#: Locks that are held until the process ends.
_held: list[int] = []
#: Part of the digest: raise it when environments must be built differently.
_LAYOUT = "1"
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment that is ready for use.

    Attributes:
        path: Its directory; `bin` below it goes first on PATH.
        python: Its interpreter.
        digest: 64 hex digits over lock, wheels and interpreter; the name of the directory.
        built: Whether this call built it.
    """

    path: Path
    python: Path
    digest: str
    built: bool


def ensure_environment(root: Path, *, lock: str | None, python: Path, wheels: list[Path] | None = None,
                       index: IndexSettings | None = None, timeout: float = 1800.0,
                       log: Log | None = None, links: Path | None = None) -> Environment:
    """Return the environment for a lock, wheels and an interpreter; build it if it is not there.

    Args:
        root: Directory of all environments.
        lock: Hashed requirements; empty or None installs none.
        python: Interpreter to build on.
        wheels: Wheel files installed after the lock, without an index and without dependencies.
        index: How to reach a package index.
        timeout: Seconds for everything, waiting for another builder included.
        log: Takes one line of progress at a time.
        links: Directory of wheels that the lock is installed from, if they are all there for this interpreter;
            then no index is asked. It does not count for the digest, because the hashes of the lock do.

    Raises:
        InvalidInput: The lock, a wheel or the interpreter cannot be used.
        Retryable: The index could not be reached, or another builder took too long.
        NotReady: Offline and not everything is cached.
        Permanent: The disk is full or not writable.
    """
    files, say, deadline = sorted(wheels or []), log or (lambda _line: None), time.monotonic() + timeout
    text = (lock or "").replace("\r\n", "\n")
    facts = inspect_python(python, root / ".interpreters.json")
    if facts is None:
        raise InvalidInput(f"{python} is not a Python interpreter that runs here")
    digest = environment_digest(text, files, facts)
    path = root / digest
    try:
        if _complete(path):
            _touch(path)
            return Environment(path, path / "bin/python", digest, built=False)
        (root / ".locks").mkdir(parents=True, exist_ok=True)
        with _locked(root / ".locks" / digest, deadline, say) as held:
            if _complete(path):
                return Environment(path, path / "bin/python", digest, built=False)
            def uv(*arguments: str, stdin: str | None = None) -> None:
                run_uv(list(arguments), index=index or IndexSettings(), stdin=stdin, keep_open=(held,),
                       timeout=max(1.0, deadline - time.monotonic()))

            say(f"creating an environment with Python {facts.version}")
            _build(path, text, files, python, uv, say, links)
            _mark(path, facts)
    except OSError as error:
        raise explain_os_error(error, f"building the environment {digest[:12]} in {root}") from error
    return Environment(path, path / "bin/python", digest, built=True)


def environment_digest(lock: str, wheels: list[Path], facts: Interpreter) -> str:
    """64 hex digits that name the environment of a lock, wheel files and an interpreter."""
    parts = [_LAYOUT, facts.version, facts.implementation, facts.platform, hashlib.sha256(lock.encode()).hexdigest()]
    for wheel in sorted(wheels, key=lambda path: path.name):
        try:
            with wheel.open("rb") as stream:
                parts.append(f"{wheel.name}={hashlib.file_digest(stream, 'sha256').hexdigest()}")
        except FileNotFoundError:
            raise InvalidInput(f"the wheel {wheel} does not exist") from None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def hold(environment: Environment, users: Iterable[str] = ()) -> bool:
    """Keep an environment from being removed as long as this process lives, and write down what it is for.

    Args:
        environment: As :func:`ensure_environment` returned it.
        users: Digests (64 hex digits) of the runnables or models whose environment it is; see :func:`users_of`.

    Returns:
        False if it was removed since; make it again then.
    """
    root = environment.path.parent
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / ".locks" / environment.digest, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # it is being removed or built anew
        os.close(descriptor)
        return False
    if not _complete(environment.path):
        os.close(descriptor)
        return False
    _held.append(descriptor)
    for user in users:
        with contextlib.suppress(OSError):  # on a full disk the environment does as well
            (environment.path / _USERS).mkdir(exist_ok=True)
            (environment.path / _USERS / user).touch()
    return True


def users_of(path: Path) -> frozenset[str]:
    """Digests (64 hex digits) of what an environment was used for; nothing if nobody wrote it down."""
    try:
        return frozenset(entry.name for entry in (path / _USERS).iterdir())
    except OSError:
        return frozenset()


def remove_unused(root: Path, keep: set[str], older_than: float, *, dry_run: bool = False) -> list[str]:
    """Remove environments that nothing pins.

    Args:
        root: Directory of all environments.
        keep: Digests that must stay.
        older_than: Seconds since the last use.
        dry_run: Only tell.

    Returns:
        Digests of what was, or would be, removed.
    """
    removed = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name in keep or len(path.name) != 64 or time.time() - _last_used(path) < older_than:
            continue
        if dry_run or _remove(root, path):
            removed.append(path.name)
    return removed


def _remove(root: Path, path: Path) -> bool:
    """Remove one environment unless somebody is building or using it now."""
    (root / ".locks").mkdir(exist_ok=True)
    try:
        with _locked(root / ".locks" / path.name, time.monotonic(), lambda _line: None):
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
    except Retryable:
        return False
    return True


def _build(path: Path, lock: str, wheels: list[Path], python: Path, uv: Callable[..., None], say: Log,
           links: Path | None) -> None:
    """Build in place; the marker comes after. Nothing but the holder of the lock touches `path`."""
    interpreter = str(path / "bin/python")
    if path.exists():
        shutil.rmtree(path)
    try:
        uv("venv", "--quiet", "--no-project", "--python", str(python), str(path))
        pins = sum(1 for line in lock.splitlines() if line[:1].isalnum())
        if pins:
            say(f"installing {pins} locked distributions")
            _sync(uv, interpreter, lock, links)
        if wheels:
            say(f"installing {', '.join(wheel.name for wheel in wheels)}")
            uv("pip", "install", "--quiet", "--no-deps", "--no-index", "--offline", "--python", interpreter,
               *(str(wheel) for wheel in wheels))
        _touch(path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _sync(uv: Callable[..., None], interpreter: str, lock: str, links: Path | None) -> None:
    """Install a lock from a directory of wheels, or from the cache alone if everything is there, else with the index.

    Hashes make the result the same; what differs is a question to the index for each distribution. Nothing is built
    from source without the index, since what a build needs is not in the lock.
    """
    command = ("pip", "sync", "--quiet", "--require-hashes", "--python", interpreter)
    if links is not None and any(links.glob("*.whl")):
        try:
            uv(*command, "--offline", "--no-build", "--no-index", "--find-links", str(links), "-", stdin=lock)
            return
        except (InvalidInput, NotReady, Retryable):
            pass  # wheels for other interpreters or platforms than this one
    try:
        uv(*command, "--offline", "--no-build", "-", stdin=lock)
    except (InvalidInput, NotReady, Retryable):
        uv(*command, "-", stdin=lock)


def _mark(path: Path, facts: Interpreter) -> None:
    document = {"python": facts.version, "implementation": facts.implementation, "platform": facts.platform}
    write_durably(path / MARKER, json.dumps(document).encode())


def _complete(path: Path) -> bool:
    """Whether the marker is there and the interpreter that the environment points to still exists."""
    return (path / MARKER).exists() and (path / "bin/python").exists()


def _touch(path: Path) -> None:
    stamp = path / _STAMP
    if time.time() - _last_used(path) > 60:
        stamp.touch()


def _last_used(path: Path) -> float:
    try:
        return (path / _STAMP).stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def _locked(path: Path, deadline: float, say: Log) -> Iterator[int]:
    """Hold the lock file exclusively; yields its descriptor. The kernel frees it when its last holder ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        waited = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Retryable(f"the environment {path.name[:12]} is still being built by another process",
                                    hint="Try again later.") from None
                if not waited:
                    say("waiting for another process that builds the same environment")
                    waited = True
                time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)
