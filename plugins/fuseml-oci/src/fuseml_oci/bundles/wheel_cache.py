"""A folder of wheels that were built before, so that bundles that share a project build it once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fuseml_oci.bundles.wheels import NOT_SOURCE, Wheel, is_executable, make_wheel, normalise
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput

#: Part of every key; another number whenever equal sources may give other wheels than before.
FORMAT = "1"
#: Wheels kept; those that were not used for longest go first.
MOST = 200
_KEY = re.compile(r"[0-9a-f]{64}")


class WheelCache:
    """Makes wheels, and takes one made before when source tree, pinned build tools and Python are the same.

    Only wheels without compiled code whose build tools are pinned are kept: of others, equal sources do not say that
    the results are equal. Several threads and processes may use one folder; each wheel is built by one of them.

    Args:
        folder: Where the wheels lie; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, source: Path, *, constraints: Path | None = None) -> Wheel:
        """Return the wheel of a project folder, as :func:`fuseml_oci.bundles.wheels.make_wheel` does.

        Raises:
            InvalidInput: It is no project, or the build fails.
        """
        if constraints is None or not (source / "pyproject.toml").is_file():
            return make_wheel(source, constraints=constraints)
        key = source_key(source, constraints)
        try:
            lock = _lock(self._folder / key)
        except OSError:  # a folder that cannot be written to is no reason to fail
            return make_wheel(source, constraints=constraints)
        with lock:
            if found := _found(self._folder / key):
                return found
            wheel = make_wheel(source, constraints=constraints)
            # The source may have been edited meanwhile; then nobody knows what the wheel was made of.
            if wheel.filename.endswith("-none-any.whl") and source_key(source, constraints) == key:
                with contextlib.suppress(OSError):
                    write_durably(self._folder / key / wheel.filename, wheel.data)
        self._tidy()
        return wheel

    def _tidy(self) -> None:
        """Remove the wheels that were not used for longest. One that another process waits for is made again."""
        with contextlib.suppress(OSError):
            places = [path for path in self._folder.iterdir() if _KEY.fullmatch(path.name)]
            if len(places) > MOST:
                places.sort(key=lambda path: path.stat().st_mtime)
                for path in places[:len(places) - MOST]:
                    shutil.rmtree(path, ignore_errors=True)


def source_key(source: Path, constraints: Path) -> str:
    """Return what a wheel depends on as 64 hexadecimal digits: files with modes, pins, Python.

    Raises:
        InvalidInput: The folder cannot be read.
    """
    known = hashlib.sha256(f"{FORMAT} {sys.implementation.cache_tag}\n".encode())
    try:
        known.update(hashlib.sha256(constraints.read_bytes()).digest())
        for path in sorted(_files(source)):
            file = source / path
            known.update(f"{int(is_executable(file))} {len(os.fsencode(path))} ".encode() + os.fsencode(path))
            known.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise InvalidInput(f"the project folder {source} cannot be read: {error}") from None
    return known.hexdigest()


def _files(source: Path) -> Iterator[str]:
    """Relative paths of the files that a build sees."""
    for folder, below, files in os.walk(source, followlinks=True):
        left_out = NOT_SOURCE(folder, [*below, *files])
        below[:] = [name for name in below if name not in left_out]
        for name in files:
            if name not in left_out:
                yield str(Path(folder, name).relative_to(source))


def _lock(place: Path) -> TextIO:
    """Wait until no other thread or process makes this wheel; closing what is returned lets the next one go on."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = (place / "lock").open("w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _found(place: Path) -> Wheel | None:
    """The wheel that lies there; None if there is none or it is damaged."""
    for path in place.glob("*.whl"):
        with contextlib.suppress(InvalidInput, OSError):
            wheel = normalise(path.name, path.read_bytes())
            os.utime(place)
            return wheel
    return None
