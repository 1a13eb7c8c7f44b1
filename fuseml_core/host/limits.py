"""How much a plugin process may use, and what holds it to that on this machine."""

from __future__ import annotations

import resource
import signal
from dataclasses import asdict, dataclass, fields
from typing import Self

from fuseml_core.host.crashes import OUT_OF_MEMORY
from fuseml_core.host.groups import ControlGroups, Events, Group
from fuseml_sdk.manifest import show_limit

_ALONE = "by rlimit, each process alone"
#: How the limits are called in crash reports.
_WORDS = {"memory": "memory", "open_files": "open files", "processes": "processes", "file_size": "the size of a file"}


@dataclass(frozen=True)
class Limits:
    """Resource limits of a component; 0 means none.

    Attributes:
        memory: Bytes; of a process and what it starts where there are control groups, else of each process alone.
        open_files: Descriptors at once, of each process alone.
        processes: Processes and threads.
        file_size: Bytes of one file.
    """

    memory: int = 0
    open_files: int = 0
    processes: int = 0
    file_size: int = 0

    def over(self, common: Limits) -> Self:
        """These, and where they are 0 the common ones."""
        return type(self)(**{field.name: getattr(self, field.name) or getattr(common, field.name)
                             for field in fields(self)})

    def stated(self) -> dict[str, int]:
        """Those that are not 0, by name."""
        return {name: value for name, value in asdict(self).items() if value}


class Enforcement:
    """Puts limits in force: by control groups where the server may make them, else by limits of each process.

    Args:
        linux: Whether this is Linux.
        groups: Makes control groups; None never does.
    """

    def __init__(self, *, linux: bool, groups: ControlGroups | None = None) -> None:
        self._linux, self._groups = linux, groups

    def judge(self, name: str, *, own_user: bool) -> tuple[bool, str]:
        """Whether a limit is enforced.

        Args:
            name: Of a field of :class:`Limits`.
            own_user: Whether the component has a user of its own.

        Returns:
            Whether it is; by what, or why not.
        """
        if name in ("open_files", "file_size"):
            return True, _ALONE
        by, why = self._group(name)
        if by:
            return True, f"by {by}, with all that it starts"
        if name == "memory":
            return self._linux, (f"{_ALONE}: {why}" if self._linux else "this system holds no process to its memory")
        if own_user:
            return True, "by rlimit, with all processes of the extension's user"
        return False, f"{why}, and the extension has no user of its own"

    def clean(self) -> None:
        """Remove control groups that a server which was killed left behind."""
        if self._groups is not None:
            self._groups.clean()

    def group(self, limits: Limits) -> Group | None:
        """The control group for one process; None if there is none.

        Raises:
            OSError: It cannot be made.
        """
        return self._groups.make(limits.stated()) if self._groups is not None else None

    def arguments(self, limits: Limits, group: Group | None, *, own_user: bool) -> list[str]:
        """What the launcher is told: to join the group, and the limits that it does not have."""
        grouped = {name for name in ("memory", "processes") if group is not None and self._group(name)[0]}
        values = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: limits.open_files or None,
            # Not the address space: programs reserve a lot of it that they never use.
            resource.RLIMIT_DATA: (limits.memory or None) if "memory" not in grouped else None,
            resource.RLIMIT_FSIZE: limits.file_size or None,
            # The kernel counts all processes of the user, so the number means something for a user of its own alone.
            resource.RLIMIT_NPROC: (limits.processes or None) if own_user and "processes" not in grouped else None,
        }
        joined = [f"group={folder}" for folder in group.folders] if group is not None else []
        return [*joined, *(f"limit={number}:{value}" for number, value in values.items() if value is not None)]

    def describe(self, limits: Limits, *, own_user: bool) -> str:
        """Limits in one line, each with what enforces it or why nothing does."""
        said = []
        for name, value in limits.stated().items():
            enforced, how = self.judge(name, own_user=own_user)
            said.append(f"{_WORDS[name]} {show_limit(name, value)} ({how if enforced else f'not enforced: {how}'})")
        return ", ".join(said) or "only no core dumps"

    def blame(self, limits: Limits, events: Events | None, cause: str, code: int) -> str:
        """Which limit a process ended by, for its crash report; empty if by none.

        Args:
            limits: Of the process.
            events: What happened in its group; None if it had none.
            cause: As :func:`fuseml_core.host.crashes.cause_of` tells it.
            code: Exit code, or the negative number of a signal.
        """
        if cause == OUT_OF_MEMORY and limits.memory:
            by = self._group("memory")[0] if events is not None else ""
            # A limit of each process makes requests fail; it was the machine that ended the process by a signal.
            if (events is not None and events.full) if by else code != -signal.SIGKILL:
                return self._named("memory", limits.memory, by)
        if events is not None and events.refused:
            return self._named("processes", limits.processes, self._group("processes")[0])
        if code == -signal.SIGXFSZ and limits.file_size:
            return self._named("file_size", limits.file_size, "")
        return ""

    def _named(self, name: str, value: int, by: str) -> str:
        return f"the limit of {_WORDS[name]} is {show_limit(name, value)}, by {by or 'rlimit'}"

    def _group(self, name: str) -> tuple[str, str]:
        return self._groups.by(name) if self._groups is not None else ("", "this host makes no control groups")
