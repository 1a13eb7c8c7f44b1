"""Interpreters that are installed on this machine. Nothing is ever downloaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from fuseml_sdk.errors import InvalidInput

_VERSION = re.compile(r"^(\d+)\.(\d+)(?:\.\d+)?\S*$")
_PROBE = ("import json,platform,sys,sysconfig;print(json.dumps([platform.python_version(),"
          "sys.implementation.name,sysconfig.get_platform()]))")
#: Answers by path, modification time and size: asking an interpreter costs a process.
_known: dict[tuple[str, int, int], Interpreter] = {}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What distinguishes one Python from another: `3.11.7`, `cpython`, `linux-x86_64`."""

    version: str
    implementation: str
    platform: str

    @property
    def minor(self) -> str:
        """The minor version, such as `3.11`."""
        return ".".join(self.version.split(".")[:2])


def find_python(wanted: str | None = None, pythons: tuple[str, ...] = (), *,
                strict: bool = False) -> tuple[Path, str | None]:
    """Find an installed interpreter of a minor version.

    Looked for in `pythons` (interpreters or directories), the running interpreter, PATH, pyenv and /usr/bin.

    Args:
        wanted: Such as `3.11` or `3.11.7` (only the minor version counts); None takes the running interpreter.
        pythons: Where to look first.
        strict: Refuse instead of falling back to the running interpreter.

    Returns:
        The interpreter, and a warning that names both versions if it is not of the wanted one.

    Raises:
        InvalidInput: `wanted` is not a version, or `strict` and there is none.
    """
    own = base_interpreter()
    if not wanted:
        return own, None
    match = _VERSION.match(wanted.strip())
    if not match:
        raise InvalidInput(f"{wanted!r} is not a Python version", hint="Write a minor version such as 3.11.")
    minor = f"{match[1]}.{match[2]}"
    for candidate in _candidates(minor, pythons, own):
        facts = inspect_python(candidate)
        if facts is not None and facts.minor == minor:
            return candidate, None
    running = ".".join(str(part) for part in sys.version_info[:2])
    if strict:
        raise InvalidInput(f"Python {minor} is wanted and not installed here",
                           hint="Install it, name it in FUSEML_PYTHONS, or unset FUSEML_STRICT_PYTHON.")
    return own, f"Python {minor} is wanted and not installed here; Python {running} is used instead"


def base_interpreter() -> Path:
    """The running interpreter, outside of any virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable)


def inspect_python(python: Path, cache: Path | None = None) -> Interpreter | None:
    """Ask an interpreter what it is; None if it does not run or is no Python 3.

    Args:
        python: The executable.
        cache: JSON file in which answers are remembered between processes.
    """
    try:
        real = python.resolve()
        stat = real.stat()
    except OSError:
        return None
    key = (str(real), stat.st_mtime_ns, stat.st_size)
    if key not in _known and cache is not None:
        _read_cache(cache)
    if key not in _known:
        facts = _ask(python)
        if facts is None:
            return None
        _known[key] = facts
        if cache is not None:
            _write_cache(cache)
    return _known[key]


def _ask(python: Path) -> Interpreter | None:
    env = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    try:
        done = subprocess.run([str(python), "-I", "-S", "-c", _PROBE], capture_output=True, text=True, timeout=20,
                              check=True, env=env, stdin=subprocess.DEVNULL)
        version, implementation, platform = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(version, implementation, platform)


def _candidates(minor: str, pythons: tuple[str, ...], own: Path) -> list[Path]:
    found: list[Path] = []
    for entry in pythons:
        path = Path(entry).expanduser()
        if path.is_dir():
            found += [path / f"python{minor}", path / "bin" / f"python{minor}", path / "python3", path / "bin/python3"]
            found += sorted(path.glob(f"{minor}*/bin/python{minor}"), key=_patch, reverse=True)
        else:
            found.append(path)
    found.append(own)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        # pyenv's shims are scripts that fail, slowly, unless the version is switched on.
        if folder and not folder.rstrip("/").endswith("/shims"):
            found.append(Path(folder) / f"python{minor}")
    root = Path(os.environ.get("PYENV_ROOT") or Path(os.environ.get("HOME") or "/nonexistent") / ".pyenv")
    found += sorted(root.glob(f"versions/{minor}*/bin/python{minor}"), key=_patch, reverse=True)
    found += [Path(f"/usr/local/bin/python{minor}"), Path(f"/usr/bin/python{minor}")]
    return [path for path in found if os.access(path, os.X_OK)]


def _patch(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", path.parent.parent.name))


def _read_cache(cache: Path) -> None:
    try:
        for path, mtime, size, facts in json.loads(cache.read_text()):
            _known.setdefault((path, mtime, size), Interpreter(**facts))
    except (OSError, ValueError, TypeError):
        return


def _write_cache(cache: Path) -> None:
    """Best effort: a lost answer is asked for again."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
        temporary.write_text(json.dumps([[*key, asdict(facts)] for key, facts in _known.items()]))
        temporary.replace(cache)
    except OSError:
        return
