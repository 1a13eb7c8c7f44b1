"""Settings: read once from FUSEML_* environment variables into one frozen object (12-factor, III)."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.domain.errors import Invalid
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.quantities import parse_bytes

DEFAULT_PORT = 8765
#: A Unix socket address has room for 108 bytes on Linux (104 on macOS), the closing NUL included.
SOCKET_PATH_LIMIT = 103


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured. Paths are absolute.

    Attributes:
        home: Directory with all state of the local instance.
        port: TCP port of the data process on 127.0.0.1; 0 chooses a free one.
        url: Base URL of a remote server; empty means the local instance.
        database_url: SQLAlchemy URL; SQLite under `home` by default.
        registry_url: Base URL of the OCI registry for runnables; empty means the embedded one.
        domain: Domain for service URLs (`http://<service>.<project>.<domain>/predict`); empty means path form.
        pythons: Directories or interpreters to look for Python versions in, before PATH and pyenv.
        strict_python: Fail instead of warn when the wanted Python version is missing.
        policy: File with the rules that say whose extensions may be installed.
        index_url, proxy, ca_bundle: Package index, HTTP proxy and CA file for uv, runnables, OCI and git.
        offline: Never ask a package index.
        max_jobs, max_services: How many may run at once.
        max_memory: Bytes that all workloads together may use.
        log_level: debug, info, warning or error.
        job_timeout: Seconds a job may run when nothing else is said.
        drain_seconds: Seconds a replaced service goes on serving old connections.
        plugin_idle: Seconds without a call after which the process of an extension ends until the next one; 0: never.
        plugin_memory: Bytes of memory of a component that states none; 0: no limit.
        plugin_files: Descriptors that each of its processes may have open at once; 0: no limit.
        plugin_processes: Processes and threads of such a component; 0: no limit.
        plugin_file_size: Bytes of the largest file that it may write; 0: no limit.
        plugin_max_memory, plugin_max_files, plugin_max_processes, plugin_max_file_size: The most that manifests and
            administrators may ask for; 0: no limit.
        plugin_uids: First and last number of users for extensions, where the server is root; None: they get none.
        extension_generations: How many sets of extensions are kept to go back to, the one in force included.
        marketplace_seconds: How often catalogs of marketplaces are updated by themselves; 0: never.
        extension_grace: Seconds that components of a new set of extensions are watched; what fails is rolled back.
        no_extensions: Safe mode: nothing of installed extensions is loaded.
        gc_seconds: Seconds between two quiet collections of what nothing needs; 0: only by `extension gc`.
        gc_age: Seconds that something must have been unused before a quiet collection removes it.
    """

    home: Path
    port: int
    url: str
    database_url: str
    registry_url: str
    domain: str
    pythons: tuple[str, ...]
    strict_python: bool
    policy: Path
    index_url: str
    proxy: str
    ca_bundle: str
    offline: bool
    max_jobs: int
    max_services: int
    max_memory: int
    log_level: str
    job_timeout: float
    drain_seconds: float
    plugin_idle: float
    plugin_memory: int
    plugin_files: int
    plugin_processes: int
    plugin_file_size: int
    plugin_max_memory: int
    plugin_max_files: int
    plugin_max_processes: int
    plugin_max_file_size: int
    plugin_uids: tuple[int, int] | None
    extension_generations: int
    extension_grace: float
    marketplace_seconds: float
    gc_seconds: float
    gc_age: float
    no_extensions: bool
    runtime_dir: Path

    @property
    def control_socket(self) -> Path:
        """Unix socket of the control process (API)."""
        return self.runtime_dir / "control.sock"

    @property
    def data_socket(self) -> Path:
        """Unix socket of the data process (API passed on, registry, git, gateway); what the CLI talks to."""
        return self.runtime_dir / "data.sock"

    @property
    def state_file(self) -> Path:
        """JSON file with process ids and the chosen port of the running server."""
        return self.home / "run" / "server.json"

    def path(self, *parts: str) -> Path:
        """A path below `home`."""
        return self.home.joinpath(*parts)


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: Variables to read; the process environment by default.

    Raises:
        Invalid: A variable has a value that cannot be used; the message names it.
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("FUSEML_HOME") or Path(env.get("HOME") or Path.home()) / ".fuseml").expanduser().absolute()
    return Settings(
        home=home,
        port=_integer(env, "FUSEML_PORT", DEFAULT_PORT, 0, 65535),
        url=env.get("FUSEML_URL", "").rstrip("/"),
        database_url=env.get("FUSEML_DATABASE_URL", "") or f"sqlite:///{home}/fuseml.db",
        registry_url=env.get("FUSEML_REGISTRY_URL", "").rstrip("/"),
        domain=_domain(env),
        pythons=tuple(p for p in env.get("FUSEML_PYTHONS", "").split(os.pathsep) if p),
        strict_python=_flag(env, "FUSEML_STRICT_PYTHON"),
        policy=Path(env.get("FUSEML_POLICY") or home / "policy.toml").expanduser().absolute(),
        index_url=env.get("FUSEML_INDEX_URL", ""),
        proxy=env.get("FUSEML_PROXY", ""),
        ca_bundle=env.get("FUSEML_CA_BUNDLE", ""),
        offline=_flag(env, "FUSEML_OFFLINE"),
        max_jobs=_integer(env, "FUSEML_MAX_JOBS", max(2, os.cpu_count() or 2), 1, 10_000),
        max_services=_integer(env, "FUSEML_MAX_SERVICES", 20, 1, 10_000),
        max_memory=_integer(env, "FUSEML_MAX_MEMORY", _physical_memory() * 9 // 10, 1 << 20, 1 << 62),
        log_level=_choice(env, "FUSEML_LOG_LEVEL", "info", ("debug", "info", "warning", "error")),
        job_timeout=float(_integer(env, "FUSEML_JOB_TIMEOUT", 24 * 3600, 1, 10**9)),
        drain_seconds=float(_integer(env, "FUSEML_DRAIN_SECONDS", 30, 0, 3600)),
        plugin_idle=float(_integer(env, "FUSEML_PLUGIN_IDLE", 300, 0, 10**9)),
        plugin_memory=_bytes(env, "FUSEML_PLUGIN_MEMORY", 4 << 30),
        plugin_files=_integer(env, "FUSEML_PLUGIN_FILES", 4096, 0, 1 << 20),
        plugin_processes=_integer(env, "FUSEML_PLUGIN_PROCESSES", 1024, 0, 1 << 22),
        plugin_file_size=_bytes(env, "FUSEML_PLUGIN_FILE_SIZE", 64 << 30),
        plugin_max_memory=_bytes(env, "FUSEML_PLUGIN_MAX_MEMORY", _physical_memory()),
        plugin_max_files=_integer(env, "FUSEML_PLUGIN_MAX_FILES", 1 << 16, 0, 1 << 20),
        plugin_max_processes=_integer(env, "FUSEML_PLUGIN_MAX_PROCESSES", 1 << 14, 0, 1 << 22),
        plugin_max_file_size=_bytes(env, "FUSEML_PLUGIN_MAX_FILE_SIZE", 0),
        plugin_uids=_users(env),
        extension_generations=_integer(env, "FUSEML_EXTENSION_GENERATIONS", 5, 1, 1000),
        marketplace_seconds=float(_integer(env, "FUSEML_MARKETPLACE_SECONDS", 6 * 3600, 0, 10**9)),
        extension_grace=float(_integer(env, "FUSEML_EXTENSION_GRACE_SECONDS", 15, 0, 3600)),
        gc_seconds=float(_integer(env, "FUSEML_GC_SECONDS", 24 * 3600, 0, 10**9)),
        gc_age=float(_integer(env, "FUSEML_GC_AGE_DAYS", 30, 1, 36_500) * 24 * 3600),
        no_extensions=_flag(env, "FUSEML_NO_EXTENSIONS"),
        runtime_dir=_runtime_dir(env, home),
    )


def _runtime_dir(env: Mapping[str, str], home: Path) -> Path:
    """A short private directory for sockets: they must fit the limit even when FUSEML_HOME does not. Without links."""
    tag = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    base = env.get("XDG_RUNTIME_DIR", "")
    if base and Path(base).is_dir() and os.access(base, os.W_OK):
        candidate = Path(base).resolve() / "fuseml" / tag
        if len(str(candidate)) + 24 <= SOCKET_PATH_LIMIT:
            return candidate
    temporary = os.path.realpath(tempfile.gettempdir())
    return Path(temporary if len(temporary) < 40 else "/tmp").resolve() / f"fuseml-{os.getuid()}" / tag  # noqa: S108


def _users(env: Mapping[str, str]) -> tuple[int, int] | None:
    """By default numbers that neither people, packages, systemd nor containers are given (systemd's UIDS-GIDS)."""
    raw = env.get("FUSEML_PLUGIN_UIDS", "") or "60578-61183"
    if raw == "none":
        return None
    first, _, last = raw.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) < int(last) < 1 << 31):
        raise Invalid(f"FUSEML_PLUGIN_UIDS has the value {raw!r}", hint="Set it to a range of user ids such as "
                      "60578-61183, or to none.")
    return int(first), int(last)


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    raw = env.get(name, "")
    if not raw:
        return default
    if not re.fullmatch(r"\d+", raw) or not low <= int(raw) <= high:
        raise Invalid(f"{name} has the value {raw!r}", hint=f"Set it to a whole number from {low} to {high}.")
    return int(raw)


def _bytes(env: Mapping[str, str], name: str, default: int) -> int:
    raw = env.get(name, "")
    try:
        return parse_bytes(raw) if raw else default
    except InvalidInput as error:
        raise Invalid(f"{name}: {error.message}", hint=error.hint) from None


def _flag(env: Mapping[str, str], name: str) -> bool:
    raw = env.get(name, "").lower()
    if raw in ("", "0", "false", "no"):
        return False
    if raw in ("1", "true", "yes"):
        return True
    raise Invalid(f"{name} has the value {raw!r}", hint="Set it to 1 or 0.")


def _choice(env: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    raw = env.get(name, "").lower() or default
    if raw not in choices:
        raise Invalid(f"{name} has the value {raw!r}", hint=f"Set it to one of {', '.join(choices)}.")
    return raw


def _domain(env: Mapping[str, str]) -> str:
    raw = env.get("FUSEML_DOMAIN", "").strip(".").lower()
    if raw and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?", raw):
        raise Invalid(f"FUSEML_DOMAIN has the value {raw!r}", hint="Set it to a DNS name such as ml.example.org.")
    return raw
