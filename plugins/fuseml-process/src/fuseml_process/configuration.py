"""The configuration of the agent, as `fuseml_configure` receives it."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseml_sdk.environments import IndexSettings
from fuseml_sdk.errors import InvalidInput

_SOCKET_LIMIT = 103


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that can be set.

    Attributes:
        root: Directory with one sub-directory per workload.
        environments: Directory of Python environments.
        cache: Directory for contents of runnables and locks.
        sockets: Short private directory for Unix sockets.
        index: Package index, proxy and CA, also for workloads.
        pythons: Where to look for interpreters first.
        strict_python: Fail instead of warn when the wanted Python version is missing.
        jobs: Jobs that may run at once.
        services: Services that may run at once.
        memory: Bytes that all workloads together may declare, and the limit of one that declares none.
        job_timeout: Seconds a job may run when nothing else is said.
        environment_timeout: Seconds that building an environment may take.
        log_limit: Bytes of a workload's log that are kept.
        capabilities: What this machine offers, such as `gpu-type: a100`.
    """

    root: Path
    environments: Path
    cache: Path
    sockets: Path
    index: IndexSettings = field(default_factory=IndexSettings)
    pythons: tuple[str, ...] = ()
    strict_python: bool = False
    jobs: int = 2
    services: int = 20
    memory: int = 0
    job_timeout: float = 24 * 3600.0
    environment_timeout: float = 1800.0
    log_limit: int = 100 << 20
    capabilities: Mapping[str, str] = field(default_factory=dict)

    @property
    def notify(self) -> Path:
        """Datagram socket on which supervisors tell that something has changed."""
        return self.sockets / f"n-{_tag(self.root)}.sock"

    def socket(self, name: str) -> Path:
        """Unix socket of a service."""
        return self.sockets / f"w-{_tag(self.root / name)}.sock"


def read_configuration(config: Mapping[str, Any], state_dir: str) -> Configuration:
    """Read the configuration; directories that are not given lie below `state_dir`.

    Raises:
        InvalidInput: A value cannot be used; the message names it.
    """
    state, limits = Path(state_dir), config.get("limits") or {}
    root = Path(config.get("root") or state / "work").absolute()
    try:
        made = Configuration(
            root=root,
            environments=Path(config.get("environments") or state / "envs").absolute(),
            cache=Path(config.get("cache") or state / "cache").absolute(),
            sockets=Path(config.get("sockets") or default_sockets(root)).absolute(),
            index=IndexSettings.from_dict(config.get("index") or {}),
            pythons=tuple(config.get("pythons") or ()),
            strict_python=bool(config.get("strict_python")),
            jobs=int(limits.get("jobs") or max(2, os.cpu_count() or 2)),
            services=int(limits.get("services") or 20),
            memory=int(limits.get("memory") or physical_memory() * 9 // 10),
            job_timeout=float(config.get("job_timeout") or 24 * 3600.0),
            environment_timeout=float(config.get("environment_timeout") or 1800.0),
            log_limit=int(config.get("log_limit") or 100 << 20),
            capabilities=dict(config.get("capabilities") or {}),
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the configuration of the process agent is wrong: {error}") from None
    if len(str(made.notify).encode()) > _SOCKET_LIMIT:
        raise InvalidInput(f"{made.sockets} is too long for Unix sockets",
                           hint=f"Choose a directory such that names in it have at most {_SOCKET_LIMIT} bytes.")
    return made


def default_sockets(root: Path) -> Path:
    """A short private directory, the same for the same root."""
    base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp"  # noqa: S108 - private below
    return Path(base) / f"fuseml-{os.getuid()}" / _tag(root)


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def uv_cache(environ: Mapping[str, str] | None = None) -> Path:
    """The directory in which the server's user keeps uv's cache, as `uv cache dir` says without a configuration file.

    Args:
        environ: Where the variables are looked up; the process environment by default.
    """
    source = os.environ if environ is None else environ
    if source.get("UV_CACHE_DIR"):
        return Path(source["UV_CACHE_DIR"]).absolute()
    caches = Path(source.get("XDG_CACHE_HOME") or "")
    home = Path(source.get("HOME") or Path.home())
    return (caches if caches.is_absolute() else home / ".cache") / "uv"


def import_paths() -> list[str]:
    """What the supervisor needs on `sys.path`: the standard library comes by itself."""
    import fuseml_process
    import fuseml_sdk

    folders = [str(Path(str(module.__file__)).parent.parent) for module in (fuseml_process, fuseml_sdk)]
    return list(dict.fromkeys([*folders, *(entry for entry in sys.path if entry.endswith("-packages"))]))


def _tag(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:16]
