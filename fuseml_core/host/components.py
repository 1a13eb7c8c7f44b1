"""What the plugin host is told to run, and what it reports about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fuseml_core.host.crashes import CrashReport
from fuseml_core.host.limits import Limits
from fuseml_core.host.masking import Masking
from fuseml_sdk.errors import PluginError
from fuseml_sdk.negotiation import Agreement

Family = Literal["store", "agent", "builder"]
HostingMode = Literal["in-process", "subprocess", "address"]
#: `idle` was never called or is stopped without fault; `failed` starts again at the next call.
State = Literal["idle", "starting", "ready", "failed", "stopped"]


@dataclass(frozen=True)
class Component:
    """One artifact store, workload agent or builder of an extension version.

    Attributes:
        id: Unique in the host, chosen by the caller.
        extension: Name of the extension, for attribution and for the name of the log.
        version: Version of the extension.
        digest: Digest of the bundle; empty for first-party plugins.
        family: Which hooks it answers.
        name: Name within extension and family.
        plugin: `module:attribute` of the plugin object.
        hosting: Where it runs.
        config: Passed to `fuseml_configure`; may hold secrets, so it is never shown.
        secrets: Names of the settings in `config` that are secrets: masked in what the component writes and raises.
        state_dir: Private directory that survives restarts; made when the component starts.
        python: Interpreter of the component's environment; None takes the server's own.
        address: Where a component of the hosting `address` listens: `unix:/path`, `http://…` or `https://…`.
        token: Bearer token for `address`; never shown.
        permissions: Names of the permissions that the extension declares.
        readable: Files and folders that it may read beside its environment and the system's, such as its bundle.
        limits: What a process of it may use.
        idle_seconds: A process that nobody called for so long is ended, and started again by the next call; negative
            takes the host's own setting, None never ends it.
        queue: Calls that may wait for a place; more are told at once to come back later.
    """

    id: str
    extension: str
    version: str
    digest: str
    family: Family
    name: str
    plugin: str
    hosting: HostingMode
    config: dict[str, Any] = field(repr=False)
    state_dir: Path
    python: Path | None = None
    address: str = ""
    token: str = field(default="", repr=False)
    secrets: frozenset[str] = frozenset()
    permissions: tuple[str, ...] = ()
    readable: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    idle_seconds: float | None = -1.0
    queue: int = 64

    @property
    def masking(self) -> Masking:
        """Takes its secrets out of texts."""
        return Masking([*(self.config.get(name) for name in self.secrets), self.token])

    @cached_property
    def title(self) -> str:
        """How people read it in errors and logs, such as `extension mlflow 0.1.0 (builder mlflow)`."""
        return f"extension {self.extension} {self.version} ({self.family} {self.name})"


@dataclass(frozen=True)
class ComponentInfo:
    """The state of a component now.

    Attributes:
        component: What was added.
        state: See :data:`State`.
        pid: Process of a running subprocess component.
        restarts: How often it was started again after the first time.
        last_crash: Cause and last output of the last crash or failed start; empty if there was none.
        calls: How many calls have ended.
        in_flight: Calls that are being served.
        crashes: The last crashes, newest last, those before a restart of the server included.
        idle_since: When the last call ended, in seconds since the epoch; None if it was never called or is called now.
        enforced: Names of the limits and permissions that the operating system enforces.
        agreement: What it and this server can agree on, or why they cannot; None before its first start.
    """

    component: Component
    state: State
    pid: int | None
    restarts: int
    last_crash: str
    calls: int = 0
    in_flight: int = 0
    crashes: tuple[CrashReport, ...] = ()
    idle_since: float | None = None
    enforced: tuple[str, ...] = ()
    agreement: Agreement | None = None


def attribute(error: PluginError, component: Component, hook: str) -> PluginError:
    """Write into an error which extension, version, component and hook it comes from. Returns the same error."""
    if "extension" not in error.details:
        error.details = {**error.details, "extension": component.extension, "version": component.version,
                         "component": component.id, "hook": hook}
        error.add_note(f"from {hook} of {component.title}")
    return error
