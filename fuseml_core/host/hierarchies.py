"""Where in the trees of control groups this process is, and where it may make groups."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Hierarchy:
    """A place for groups.

    Attributes:
        version: Of cgroups, 1 or 2.
        folder: A group that this process is in, or one above.
    """

    version: int
    folder: Path


@dataclass(frozen=True)
class _Mount:
    version: int
    controllers: frozenset[str]
    root: str
    point: Path


def find(controllers: Sequence[str], proc: Path = Path("/proc/self")) -> dict[str, list[Hierarchy] | str]:
    """Look for places where groups of controllers may be made, the best first.

    Args:
        controllers: Such as `memory` and `pids`.
        proc: Folder of the process whose groups count.

    Returns:
        By controller: the places to be tried, or why there is none.
    """
    if sys.platform != "linux":
        return dict.fromkeys(controllers, "only Linux has control groups")
    try:
        mounts = _mounts((proc / "mountinfo").read_text("utf-8", "replace"))
        own = _own((proc / "cgroup").read_text("utf-8", "replace"))
    except OSError as error:
        return dict.fromkeys(controllers, f"control groups cannot be looked up: {error}")
    return {controller: _places(controller, mounts, own) for controller in controllers}


def _places(controller: str, mounts: Sequence[_Mount], own: dict[str, str]) -> list[Hierarchy] | str:
    for mount in mounts:
        if mount.version == 1 and controller in mount.controllers:
            return [Hierarchy(1, _below(mount, own.get(controller, "/")))]
    for mount in mounts:
        if mount.version == 2:
            mine = _below(mount, own.get("", "/"))
            if not (mine / "cgroup.controllers").is_file():
                continue
            # A group in a delegated one has no controllers until the one above hands them on.
            places = [folder for folder in _delegated(mine, mount.point) if controller in _given(folder)]
            if places:
                return [Hierarchy(2, folder) for folder in places]
            return f"the server's control group {mine} was not given the controller {controller!r}"
    return f"no control groups with the controller {controller!r} are mounted"


def _delegated(mine: Path, top: Path) -> list[Path]:
    """Groups that this process may divide: its own; the one above if that was delegated; root's may be the top."""
    places = [mine]
    if mine != top and (os.access(mine.parent, os.W_OK) if os.geteuid() else _is_marked(mine.parent)):
        places.append(mine.parent)
    if os.geteuid() == 0 and top not in places:
        places.append(top)
    return places


def _given(folder: Path) -> list[str]:
    """The controllers that a group of version 2 may hand on."""
    try:
        return (folder / "cgroup.controllers").read_text("ascii").split()
    except OSError:
        return []


def _is_marked(folder: Path) -> bool:
    """Whether systemd has marked a group as delegated to what runs in it."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(folder, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _mounts(text: str) -> list[_Mount]:
    """The mounts of control groups; see proc_pid_mountinfo(5)."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        found.append(_Mount(2 if kind[0] == "cgroup2" else 1, frozenset(kind[2].split(",")), _plain(fields[3]),
                            Path(_plain(fields[4]))))
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _own(text: str) -> dict[str, str]:
    """The group of the process by controller, version 2 under the empty name; see cgroups(7)."""
    groups = {}
    for line in text.splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(","):
            groups[controller] = group
    return groups


def _below(mount: _Mount, group: str) -> Path:
    """The folder of a group; in a container, the mount may show only a part of the tree."""
    root = mount.root.rstrip("/")
    if root and (group == root or group.startswith(f"{root}/")):
        group = group[len(root):]
    folder = mount.point / group.lstrip("/")
    return folder if folder.is_dir() else mount.point
