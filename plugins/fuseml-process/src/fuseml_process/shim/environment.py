"""The Python environment of a workload: chosen by its descriptor, built once, shared by its digest."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fuseml_process.shim.failures import StepFailed

_PYTHON_ENV = re.compile(r"^python:\s*[\"']?(\d+\.\d+)", re.MULTILINE)
_CONDA = re.compile(r"^\s*-\s*[\"']?python\s*={1,2}\s*(\d+\.\d+)", re.MULTILINE)
_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
Log = Callable[[str], None]


class Ready(NamedTuple):
    """An interpreter to run with and the virtual environment around it."""

    python: Path
    path: Path
    warnings: list[str]


class Wanted(NamedTuple):
    """What a descriptor asks for: Python version, lock, wheels; `requirements` stands for a lock not yet made."""

    python: str | None
    lock: str
    wheels: list[Path]
    requirements: Path | None = None
    extra: tuple[str, ...] = ()


def prepare(spec: Mapping[str, Any], contents: Path, inputs: Mapping[str, Path], settings: Mapping[str, Any],
            log: Log, users: Sequence[str] = ()) -> Ready:
    """Make the environment that a runnable asks for.

    Args:
        spec: Its `EnvironmentSpec` as JSON.
        contents: Directory of the runnable's files.
        inputs: Paths of the staged inputs.
        settings: What the agent told the supervisor.
        log: Takes one line of progress at a time.
        users: Digests of what the environment is for; it is kept while those exist, and while this process lives.

    Raises:
        StepFailed: A file is missing, or the environment cannot be built.
    """
    wanted = _wanted(spec, contents, inputs)
    from fuseml_sdk import environments
    from fuseml_sdk.errors import PluginError

    index = environments.IndexSettings.from_dict(settings["index"])
    try:
        python, warning = environments.find_python(wanted.python, tuple(settings["pythons"]),
                                                   strict=settings["strict_python"])
        lock = wanted.lock if wanted.requirements is None else _compiled(
            wanted.requirements, wanted.extra, python, index, Path(settings["cache"]) / "locks", log)
        while True:  # it may be removed as unused between being found and being held
            built = environments.ensure_environment(Path(settings["environments"]), lock=lock, wheels=wanted.wheels,
                                                    python=python, index=index, log=log,
                                                    timeout=settings["environment_timeout"],
                                                links=contents / "vendored")
            if environments.hold(built, users):
                break
    except PluginError as error:
        raise StepFailed("Environment", str(error)) from None
    return Ready(built.python, built.path, [warning] if warning else [])


def users_of_environment(workload: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Digests, 64 hex digits each, of the runnable and of the input that one environment of a workload comes from."""
    name = spec.get("from_input")
    texts = [str((workload.get("contents") or {}).get("uri") or "")]
    texts += [str(given.get("digest") or "") for given in workload.get("inputs") or [] if given.get("name") == name]
    return sorted({match for text in texts for match in _HEX.findall(text)})


def _wanted(spec: Mapping[str, Any], contents: Path, inputs: Mapping[str, Path]) -> Wanted:
    wheels: list[Path] = []
    if spec.get("wheels"):
        wheels = sorted(_inside(contents, spec["wheels"], "the directory of wheels").glob("*.whl"))
        if not wheels:
            raise StepFailed("Environment", f"the runnable has no wheels in {spec['wheels']}")
    if not spec.get("from_input"):
        lock = _inside(contents, spec["lock"], "the lock").read_text() if spec.get("lock") else ""
        return Wanted(spec.get("python"), lock, wheels)
    name = spec["from_input"]
    extra = list(spec.get("requirements") or [])
    if name not in inputs:
        raise StepFailed("Environment", f"the environment shall come from the input {name!r}, which is not given")
    return _extended(inputs[name], name, spec.get("python"), wheels, extra) if extra else _carried(
        inputs[name], name, spec.get("python"), wheels)


def _carried(folder: Path, name: str, python: str | None, wheels: list[Path]) -> Wanted:
    """The environment that an input brings: its own lock, else its requirements, to be locked now."""
    lock = folder / ".fuseml" / "requirements.lock"
    if lock.is_file():
        facts = _read_facts(folder / ".fuseml" / "environment.json")
        return Wanted(facts.get("python") or python, lock.read_text(), wheels)
    requirements = folder / "requirements.txt"
    if not requirements.is_file():
        raise StepFailed("Environment", f"the input {name} carries no environment: it has neither "
                         ".fuseml/requirements.lock nor requirements.txt")
    return Wanted(_stated_python(folder) or python, "", wheels, requirements)


def _extended(folder: Path, name: str, python: str | None, wheels: list[Path], extra: list[str]) -> Wanted:
    """What an input requires and what the runnable adds, resolved together.

    The input's lock cannot be kept: what is added may need other versions of what both use.
    """
    requirements = folder / "requirements.txt"
    if not requirements.is_file():
        raise StepFailed("Environment", f"the input {name} has no requirements.txt to add {', '.join(extra)} to")
    facts = _read_facts(folder / ".fuseml" / "environment.json")
    stated = facts.get("python") or _stated_python(folder) or python
    return Wanted(stated, "", wheels, requirements, tuple(extra))


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StepFailed("Environment", f"{path.name} is not JSON: {error}") from None
    return facts if isinstance(facts, dict) else {}


def _stated_python(folder: Path) -> str | None:
    """The Python version in `python_env.yaml` or `conda.yaml`, as MLflow writes them."""
    for name, pattern in (("python_env.yaml", _PYTHON_ENV), ("conda.yaml", _CONDA)):
        file = folder / name
        if file.is_file() and (match := pattern.search(file.read_text(errors="replace"))):
            return match[1]
    return None


def _compiled(requirements: Path, extra: tuple[str, ...], python: Path, index: Any, locks: Path, log: Log) -> str:
    """Lock requirements once; the same text for the same Python version gives the same lock from then on."""
    from fuseml_sdk import environments

    facts = environments.inspect_python(python)
    minor = facts.minor if facts else ""
    added = "".join(f"{line}\n" for line in extra)
    key = hashlib.sha256(f"{minor}\n{index.index_url}\n{added}".encode() + requirements.read_bytes()).hexdigest()
    kept = locks / f"{key}.lock"
    if kept.is_file():
        return kept.read_text()
    log(f"locking {requirements.name} for Python {minor}")
    lines = [*requirements.read_text().splitlines(), *extra]
    lock = environments.compile_lock(lines if extra else requirements, python, index, universal=not extra)
    locks.mkdir(parents=True, exist_ok=True)
    temporary = locks / f".{key}.{os.getpid()}"
    temporary.write_text(lock)
    temporary.replace(kept)
    return kept.read_text()


def _inside(contents: Path, relative: str, what: str) -> Path:
    path = contents / relative
    if not path.resolve().is_relative_to(contents.resolve()):
        raise StepFailed("Environment", f"{what} {relative} does not lie inside the runnable")
    if not path.exists():
        raise StepFailed("Environment", f"{what} {relative} is missing in the runnable")
    return path
