"""What the plugin host is told to run, and what it reports about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fuseml_sdk.errors import PluginError

Family = Literal["store", "agent", "builder"]
HostingMode = Literal["in-process", "subprocess"]
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
        state_dir: Private directory that survives restarts; made when the component starts.
        python: Interpreter of the component's environment; None takes the server's own.
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

    @property
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
    """

    component: Component
    state: State
    pid: int | None
    restarts: int
    last_crash: str


def attribute(error: PluginError, component: Component, hook: str) -> PluginError:
    """Write into an error which extension, version, component and hook it comes from. Returns the same error."""
    if "extension" not in error.details:
        error.details = {**error.details, "extension": component.extension, "version": component.version,
                         "component": component.id, "hook": hook}
        error.add_note(f"from {hook} of {component.title}")
    return error
