"""What wheels are chosen for: a Python version on a platform, and which wheels fit there."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from packaging import tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from fuseml_sdk.errors import InvalidInput

_PYTHON = re.compile(r"3\.(\d{1,2})")
#: Oldest glibc that vendored wheels are chosen for (Debian 10, RHEL 8), and the macOS release.
_GLIBC, _MACOS = 28, (14, 0)
#: Name of each platform, and what uv calls it.
PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "macos-x86_64": "x86_64-apple-darwin",
    "macos-arm64": "aarch64-apple-darwin",
}
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True)
class Target:
    """A minor Python version on a platform, such as `3.12` on `linux-x86_64`."""

    python: str
    platform: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"

    @property
    def triple(self) -> str:
        """The platform as uv names it."""
        return PLATFORMS[self.platform]

    def tags(self) -> Sequence[tags.Tag]:
        """Tags of the wheels that can be installed there, the best first (PEP 425)."""
        return _tags(self.python, self.platform)


def target(python: str = "", platform_name: str = "") -> Target:
    """Read a target; empty parts are those of the running interpreter.

    Raises:
        InvalidInput: The version or the platform is not known.
    """
    python = python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not _PYTHON.fullmatch(python):
        raise InvalidInput(f"{python!r} is not a minor version of Python 3", hint="Write it like 3.12.")
    name = platform_name or this_platform()
    if name not in PLATFORMS:
        raise InvalidInput(f"{name!r} is not a platform that wheels can be chosen for",
                           hint=f"Known are {', '.join(PLATFORMS)}.")
    return Target(python, name)


def this_platform() -> str:
    """The name of the platform that this runs on."""
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    return f"{system}-{ {'amd64': 'x86_64'}.get(machine, machine)}"


def best_wheel(names: Iterable[str], wanted: Target) -> str | None:
    """The file name of the wheel that an installer would choose; None if none fits."""
    order = {tag: rank for rank, tag in enumerate(wanted.tags())}
    ranked: list[tuple[int, str]] = []
    for name in names:
        ranks = [order[tag] for tag in wheel_tags(name) if tag in order]
        ranked += [(min(ranks), name)] if ranks else []
    return min(ranked)[1] if ranked else None


def wheel_tags(filename: str) -> frozenset[tags.Tag]:
    """What a wheel's file name says it fits; nothing if it is not the name of a wheel."""
    try:
        return parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return frozenset()


@cache
def _tags(python: str, platform_name: str) -> tuple[tags.Tag, ...]:
    version = (3, int(python.partition(".")[2]))
    platforms = list(_platforms(platform_name))
    return (*tags.cpython_tags(version, platforms=platforms),
            *tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms))


def _platforms(name: str) -> Iterable[str]:
    system, _, machine = name.partition("-")
    if system == "macos":
        yield from tags.mac_platforms(_MACOS, machine)
        return
    for minor in range(_GLIBC, 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _LEGACY and (machine == "x86_64" or minor == 17):
            yield f"{_LEGACY[minor]}_{machine}"
    yield f"linux_{machine}"
