"""Locks: universal, hashed requirements without URLs."""

from __future__ import annotations

from pathlib import Path

from fuseml_sdk.environments.index import IndexSettings
from fuseml_sdk.environments.tool import run_uv


def compile_lock(requirements: list[str] | Path, python: Path | None = None, index: IndexSettings | None = None, *,
                 constraints: Path | None = None, universal: bool = True, python_version: str | None = None,
                 timeout: float = 600.0) -> str:
    """Resolve requirements to a lock: every distribution pinned, with the hashes of all its files.

    The lock names no index, so it can be used with any. Settings of a project around are not read.

    Args:
        requirements: Requirement lines, or a requirements file (then `-r` and `-c` in it are relative to it).
        python: Interpreter to resolve for; the running one's default by default.
        index: How to reach a package index.
        constraints: File with constraints.
        universal: Valid on every platform and for later Python versions; otherwise for this machine only.
        python_version: Lowest version that the lock supports, such as `3.11`; that of `python` by default.
        timeout: Seconds.

    Returns:
        The text of a requirements file; empty if nothing is required.

    Raises:
        InvalidInput: The requirements contradict each other or cannot be read; uv's explanation is included.
        Retryable: The index could not be reached.
        NotReady: Offline, and something needed is not in the cache.
    """
    text = None if isinstance(requirements, Path) else "\n".join(requirements) + "\n"
    if text is not None and not text.strip():
        return ""
    command = ["pip", "compile", str(requirements) if text is None else "-", "--quiet", "--generate-hashes",
               "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--universal"] if universal else []
    command += ["--python", str(python)] if python else []
    command += ["--python-version", python_version] if python_version else []
    command += ["--constraints", str(constraints)] if constraints else []
    return run_uv(command, index=index or IndexSettings(), timeout=timeout, stdin=text)
