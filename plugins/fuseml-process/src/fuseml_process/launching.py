"""Making a work directory and starting its supervisor."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuseml_process.admission import effective_resources
from fuseml_process.configuration import Configuration, import_paths, uv_cache
from fuseml_process.directories import WorkDirectory, write_json
from fuseml_sdk.environments import find_uv
from fuseml_sdk.errors import NotReady
from fuseml_sdk.types import Workload

#: Variables of the server that the supervisor may see; the workload sees fewer.
_SUPERVISOR = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
               "PYENV_ROOT", "CC", "CXX", "UV_LINK_MODE")
_WORKLOAD = ("USER", "LOGNAME", "TZ", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


#: Supervisors started by this process, whichever agent instance started them.
_children: set[int] = set()


def make_directory(workload: Workload, configuration: Configuration) -> None:
    """Make `work/<name>/` whole or not at all; one that exists is left alone."""
    configuration.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=configuration.root))
    try:
        directory = WorkDirectory(temporary)
        write_json(directory.workload, workload.model_dump(mode="json"))
        write_json(directory.settings, supervisor_settings(workload, configuration))
        temporary.rename(configuration.root / workload.name)
    except OSError:
        if not (configuration.root / workload.name / "workload.json").exists():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def supervisor_settings(workload: Workload, configuration: Configuration) -> dict[str, Any]:
    """What the supervisor must know beside the workload."""
    timeout = workload.timeout or workload.runnable.timeout or configuration.job_timeout
    return {
        "python": sys.executable, "environments": str(configuration.environments), "cache": str(configuration.cache),
        "index": configuration.index.to_dict(), "pythons": list(configuration.pythons),
        "strict_python": configuration.strict_python, "environment_timeout": configuration.environment_timeout,
        "memory": effective_resources(workload).memory or configuration.memory,
        "timeout": timeout if workload.kind == "job" else None, "log_limit": configuration.log_limit,
        "notify": str(configuration.notify), "socket": str(configuration.socket(workload.name)),
        "submitted_at": time.time(), "variables": _inherited(_WORKLOAD, configuration),
    }


def _inherited(names: tuple[str, ...], configuration: Configuration) -> dict[str, str]:
    """What is passed on of the server's environment: some names, how to reach a package index, and uv's cache.

    A workload has a `HOME` of its own, below which uv would begin with an empty cache each time.
    """
    variables = {name: os.environ[name] for name in names if name in os.environ}
    return {"UV_CACHE_DIR": str(uv_cache()), **variables, **configuration.index.variables()}


def start_supervisor(directory: WorkDirectory, configuration: Configuration) -> None:
    """Start the supervisor of a work directory.

    A second one for the same directory ends at once, so calling this twice does no harm.

    Raises:
        NotReady: The process cannot be started now.
    """
    script = Path(__file__).parent / "shim" / "__main__.py"
    command = [sys.executable, "-I", "-S", str(script), str(directory.path), *import_paths()]
    variables = _inherited(_SUPERVISOR, configuration)
    with suppress(NotReady):  # only workloads that need an environment fail, with this reason
        variables["FUSEML_UV"] = str(find_uv())
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, str(directory.diagnostics), append, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    try:
        pid = os.posix_spawn(sys.executable, command, variables, file_actions=actions,
                              setsid=sys.platform == "linux", setsigmask=[])
    except OSError as error:
        raise NotReady(f"no supervisor could be started: {error}") from None
    _children.add(pid)


def collect_children() -> None:
    """Collect supervisors that have ended, so that none stays behind as a zombie."""
    for pid in list(_children):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            ended = True
        if ended:
            _children.discard(pid)
