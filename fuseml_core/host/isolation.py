"""How plugin processes are kept apart from the server, from each other and from what they did not ask for."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.host import airlock
from fuseml_core.host.components import Component
from fuseml_core.host.environment import child_environment
from fuseml_core.host.folders import HostFolders
from fuseml_core.host.grounds import Grounds
from fuseml_core.host.groups import ControlGroups, Events, Group
from fuseml_core.host.limits import Enforcement, Limits
from fuseml_core.host.machine import Machine, probe
from fuseml_core.host.own_users import OwnUsers, User, take
from fuseml_core.host.readable import Files, files_of
from fuseml_core.host.syscalls import program
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.permissions import NETWORK, NONE, PORTS, SETTINGS, SYSTEM_CALLS, Permission, parse, unknown

#: How it begins to be said that a permission is not given, whatever the extension declares.
REFUSED = "refused: "
#: By how many thousandths of the memory a plugin process counts for more when the kernel chooses what to end.
_SOONER = 100


@dataclass(frozen=True)
class Measure:
    """One thing that keeps plugin processes in their place.

    Attributes:
        name: Such as `files` or `own user`.
        enforced: Whether it is in force.
        reason: Why it is not; what it is, if it is.
    """

    name: str
    enforced: bool
    reason: str


class Confined:
    """One start of a component: what to run, with which variables.

    Attributes:
        command: The launcher and what it becomes.
        environment: All variables.
        temporary: Its private folder for temporary files.
        group: Its control group; None if it has none.
        leaves: Whether what it started may outlive it, as the workloads of agents do; otherwise that ends with it.
        events: What had happened in the group when it was closed; None without one.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], temporary: Path,
                 group: Group | None = None, *, leaves: bool = True) -> None:
        self.leaves = leaves
        self.command, self.environment, self.temporary = list(command), dict(environment), temporary
        self.group, self.events = group, None if group is None else Events()

    @property
    def was_starved(self) -> bool:
        """Whether the kernel had ended something in its group for want of memory when it was closed."""
        return self.events is not None and self.events.killed > 0

    def close(self) -> None:
        """Remove its temporary files and its group; its processes have ended."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        if self.group is not None:
            self.events = self.group.events()
            if not self.leaves:
                self.group.end()
            self.group.close()


class Isolation:
    """Decides how a component is confined on this machine, and says so.

    Args:
        protected: Folders of the server that no permission opens: FUSEML_HOME and that of the sockets.
        limits: Resource limits of a component that sets none of its own; 0 means none.
        users: Gives extensions users of their own; None never does.
        groups: Makes control groups; None never does.
        machine: What the machine can do; asked by default.
        states: Folder of the state folders of extensions; None takes those of hosted components alone.
    """

    def __init__(self, *, protected: Sequence[Path] = (), limits: Limits | None = None, users: OwnUsers | None = None,
                 groups: ControlGroups | None = None, machine: Machine | None = None,
                 states: Path | None = None) -> None:
        self._protected = tuple(protected)
        self.grounds = Grounds(protected, states)
        self._limits = limits or Limits()
        self._users = users
        self._machine = machine or probe()
        self._enforcement = Enforcement(linux=self._machine.linux, groups=groups)

    # -- what is in force ------------------------------------------------------------------------------------------

    def measures(self) -> list[Measure]:
        """What every plugin process is subject to on this machine, and what not and why."""
        machine, own = self._machine, self._own_user()
        abi = machine.landlock
        older = f"this kernel's Landlock is of version {abi}"
        return [
            Measure("environment", True, "an allowlist of variables; HOME and TMPDIR are private"),
            Measure("private files", True, "what it makes is its user's alone (umask 077)"),
            Measure("limits", True, self._enforcement.describe(self._limits, own_user=own.enforced)),
            Measure("no new privileges", machine.linux, "set-user-id programs give it nothing" if machine.linux else
                    machine.landlock_why),
            Measure("files", abi > 0, f"Landlock {abi}: its own, its environment and the system's alone" if abi else
                    machine.landlock_why),
            Measure("memory of others", abi > 0, "Landlock: no ptrace, no /proc/PID/environ of others" if abi else
                    machine.landlock_why),
            Measure("system calls", bool(machine.architecture), machine.seccomp_why or "a filter refuses those that "
                    "reach into other processes or the kernel"),
            Measure("network", bool(machine.architecture), machine.seccomp_why or "none without the permission"),
            Measure("ports", abi >= 4, "Landlock holds TCP to declared ports" if abi >= 4 else
                    machine.landlock_why or f"{older}; version 4 (Linux 6.7) knows ports"),
            Measure("signals", abi >= 6, "it can signal its own processes alone" if abi >= 6 else
                    machine.landlock_why or f"{older}; version 6 (Linux 6.12) knows signals"),
            own,
        ]

    def enforced(self, component: Component) -> tuple[str, ...]:
        """Names of the measures in force for a component, and of its permissions that are given and enforced."""
        if component.hosting != "subprocess":
            return ()
        names = [measure.name for measure in self.measures() if measure.enforced and measure.name != "own user"]
        if self.user(component) is not None:
            names.append("own user")
        judged = {name: self.judge(name) for name in component.permissions}
        return (*names, *(name for name, (enforced, how) in judged.items()
                          if enforced and not how.startswith(REFUSED)))

    def judge(self, name: str) -> tuple[bool, str]:
        """Whether a permission is enforced here: an extension that does not declare it cannot do what it allows.

        Args:
            name: As declared.

        Returns:
            Whether it is, and by what, or why not.
        """
        try:
            permission = parse(name)
        except InvalidInput as error:
            return False, error.message
        by, machine = permission.kind.by, self._machine
        if by == NONE:
            return False, permission.kind.why_not
        if by == SETTINGS:
            return True, "the server gives out no other"
        if by in (NETWORK, SYSTEM_CALLS):
            return (True, "by a filter of system calls") if machine.architecture else (False, machine.seccomp_why)
        if by == PORTS and machine.landlock < 4:
            return False, machine.landlock_why or "this kernel's Landlock knows no ports; Linux 6.7 brought them"
        if permission.argument and (refused := self._files_refused(permission)):
            return True, f"{REFUSED}{refused}"
        return (True, "by Landlock") if machine.landlock else (False, machine.landlock_why)

    def limits(self, component: Component) -> Limits:
        """What the processes of a component may use: its own limits, and the common ones where it has none."""
        return component.limits.over(self._limits)

    def judge_limit(self, name: str, component: Component | None = None) -> tuple[bool, str]:
        """Whether a limit is enforced here, and by what or why not; see :meth:`Enforcement.judge`.

        Args:
            name: Such as `memory`.
            component: Which one; None: one of an extension that is not loaded.
        """
        own = self.user(component) is not None if component is not None else self._own_user().enforced
        return self._enforcement.judge(name, own_user=own)

    def blame(self, component: Component, confined: Confined, cause: str, code: int) -> str:
        """Which limit an ended process met; see :meth:`Enforcement.blame`."""
        return self._enforcement.blame(self.limits(component), confined.events, cause, code)

    def _files_refused(self, permission: Permission) -> str:
        probe_component = Component(id="", extension="", version="", digest="", family="store", name="", plugin="",
                                    hosting="subprocess", config={}, state_dir=Path("/nonexistent"))
        refused = files_of(probe_component, [permission], {}, self._protected).refused
        return refused.get(permission.name, "")

    def _own_user(self) -> Measure:
        if self._users is None or not self._machine.root:
            return Measure("own user", False, "the server is not root, so it cannot give processes other users"
                           if not self._machine.root else "this host gives out no users")
        return Measure("own user", *self._users.usable())

    def clean(self) -> None:
        """At start: remove control groups that a server which was killed left behind."""
        self._enforcement.clean()

    # -- starting --------------------------------------------------------------------------------------------------

    def confine(self, component: Component, arguments: Sequence[str], environ: Mapping[str, str]) -> Confined:
        """Prepare the start of a component: make its folders and put together the command of the launcher.

        Args:
            component: What runs.
            arguments: Those of the interpreter, after `-I`.
            environ: Variables to choose from.

        Raises:
            OSError: Its folders cannot be made, or there is no such interpreter.
        """
        # A name that is not understood, of an extension that is older or newer than this server, allows nothing.
        permissions = tuple(parse(name) for name in component.permissions if not unknown([name]))
        component.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folders = HostFolders(component.state_dir)
        folders.prepare()
        python = str(component.python or sys.executable)
        if not os.access(python, os.X_OK):
            code = errno.EACCES if os.path.exists(python) else errno.ENOENT  # noqa: PTH110
            raise OSError(code, os.strerror(code), python)
        temporary, byte_code = folders.temporary(), folders.byte_code(python)
        own = (temporary, byte_code, folders.incoming, folders.workloads)
        files = files_of(component, permissions, environ, self._protected, own)
        compiled = () if _is_compiled(component, python) else ("-X", f"pycache_prefix={byte_code}")
        command = [python, "-I", *compiled, *arguments]
        user = self.user(component)
        if self._users is not None and user is not None:
            self._users.prepare(component, user)
        if os.geteuid() == 0:
            # They may have been another user's until now.
            for path in (component.state_dir, *own):
                take(path, user or User(0, os.getegid()))
        limits = self.limits(component)
        group = self._enforcement.group(limits)
        told = ["umask=077", *self._enforcement.arguments(limits, group, own_user=user is not None),
                *self._machine_arguments(permissions, files, user)]
        forms = {permission.kind.form for permission in permissions}
        environment = child_environment(environ, component.state_dir, temporary, forms)
        launcher = [sys.executable, "-I", "-S", airlock.__file__, *told, "--", *command]
        return Confined(launcher, environment, temporary, group, leaves=component.family == "agent")

    def _machine_arguments(self, permissions: tuple[Permission, ...], files: Files, user: User | None) -> list[str]:
        machine, forms = self._machine, {permission.kind.form for permission in permissions}
        told = _memory_arguments() if machine.linux else []
        if machine.linux and os.geteuid() == 0:
            told.append("drop-capabilities")
        if user is not None:
            told.append(f"user={user.uid}:{','.join(map(str, (user.gid, *user.groups)))}")
        if machine.landlock:
            held = not forms & {"network", "kubernetes"}
            told += [f"read={path}" for path in files.read] + [f"write={path}" for path in files.write]
            told += [f"device={path}" for path in files.devices]
            told += [f"connect={p.argument}" for p in permissions if held and p.kind.form == "network:PORT"]
            told.append(f"landlock={machine.landlock}:{'n' if held else ''}s")
        if machine.architecture:
            told.append(f"seccomp={program(machine.architecture, permissions).hex()}")
        return told

    def user(self, component: Component) -> User | None:
        """The user of its own that a component runs as; None if it runs as the server's."""
        if self._users is None or not self._machine.root:
            return None
        return self._users.user_for(component)


def _memory_arguments() -> list[str]:
    """When memory is short, the kernel shall rather end a plugin, which starts again, than the server."""
    try:
        own = int(Path("/proc/self/oom_score_adj").read_text("ascii"))
    except (OSError, ValueError):
        return []
    return [f"oom-score={min(own + _SOONER, 1000)}"]


def _is_compiled(component: Component, python: str) -> bool:
    """Whether the modules of the environment are compiled already: then there is nothing to keep elsewhere."""
    places = [*Path(python).parent.parent.glob("lib/python*/site-packages"), *component.readable]
    if component.python is None:
        places += map(Path, sys.path)
    return any((place / "fuseml_sdk" / "__pycache__").is_dir() for place in places)
