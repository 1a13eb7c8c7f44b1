"""The shell command of an entry point, composed and quoted as MLflow composes it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .errors import TrainingError
from .settings import Parameter, Settings

#: Seconds without a byte before a download is given up.
DOWNLOAD_TIMEOUT = 60.0
#: Value of a parameter that stands for the dataset.
DATA = "{input.data}"


@dataclass(frozen=True)
class Command:
    """What to run, and the parameters to record: given values, before paths were downloaded."""

    line: str
    logged: dict[str, str]


def compose(settings: Settings) -> Command:
    """Substitute the parameters of the entry point into its command.

    Declared parameters replace their placeholders, quoted for the shell; others are appended as `--name value`.

    Raises:
        TrainingError: A parameter has no value, a path does not exist or a URL cannot be fetched.
    """
    entry = settings.entry_point
    values = _with_data(settings)
    missing = [p.name for p in entry.parameters if p.name not in values]
    if missing:
        msg = "no value for the parameter{} {}: give one, or a dataset for a path".format(
            "s" if len(missing) > 1 else "", ", ".join(repr(name) for name in missing))
        raise TrainingError(msg)
    resolved = {p.name: shlex.quote(_resolve(p, values[p.name], index, settings))
                for index, p in enumerate(entry.parameters)}
    extra = {name: value for name, value in values.items() if name not in resolved}
    line = " ".join([entry.command.format(**resolved),
                     *("--{} {}".format(shlex.quote(name), shlex.quote(value)) for name, value in extra.items())])
    return Command(line, values)


def _with_data(settings: Settings) -> dict[str, str]:
    """Values in the order of declaration, defaults filled in, the dataset given to a parameter that takes one."""
    given = dict(settings.values)
    takers = _data_parameters(settings.entry_point.parameters, given)
    if settings.data is not None:
        if not takers:
            print("fuseml: the entry point has no path or uri parameter without a value; the dataset is in "
                  "$FUSEML_INPUT_DATA only", flush=True)
        path = _dataset_path(settings.data)
        given.update({taker.name: path.as_uri() if taker.type == "uri" else str(path) for taker in takers})
    values: dict[str, str] = {}
    for parameter in settings.entry_point.parameters:
        value = given.pop(parameter.name, parameter.default)
        if value is not None:
            values[parameter.name] = value
    values.update(given)
    return values


def _data_parameters(parameters: list[Parameter], given: dict[str, str]) -> list[Parameter]:
    """The parameters that take the dataset.

    Those that were given it by name, else the first path or uri that was not given; without a default first.
    """
    named = [p for p in parameters if given.get(p.name) == DATA]
    if named:
        return named
    free = [p for p in parameters if p.type in ("path", "uri") and given.get(p.name) in (None, p.default)]
    return sorted(free, key=lambda p: p.default is not None)[:1]


def _dataset_path(directory: Path) -> Path:
    """A dataset of one file stands for that file."""
    entries = [path for path in directory.iterdir() if path.name != ".fuseml"] if directory.is_dir() else []
    return entries[0] if len(entries) == 1 and entries[0].is_file() else directory


def _resolve(parameter: Parameter, value: str, index: int, settings: Settings) -> str:
    if parameter.type == "uri" and not urllib.parse.urlparse(value).scheme:
        msg = "the parameter {!r} must be a URI, got {!r}".format(parameter.name, value)
        raise TrainingError(msg)
    if parameter.type != "path":
        return value
    parsed = urllib.parse.urlparse(value)
    if parsed.scheme in ("", "file"):
        local = parsed.path if parsed.scheme else value
        path = Path(os.path.abspath(str(settings.code / urllib.parse.unquote(local) if parsed.scheme
                                        else settings.code / local)))
        if not path.exists():
            msg = "the parameter {!r} is {!r}, but there is no such file or directory".format(parameter.name, value)
            raise TrainingError(msg)
        return str(path)
    target = settings.scratch / "parameters" / "param_{}".format(index)
    target.mkdir(parents=True, exist_ok=True)
    if parsed.scheme in ("http", "https"):
        return str(_download(value, target, parameter.name))
    return download_with_mlflow(value, target)


def _download(url: str, target: Path, name: str) -> Path:
    file = target / (Path(urllib.parse.unquote(urllib.parse.urlparse(url).path)).name or "data")
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as response, file.open("wb") as out:  # noqa: S310
            shutil.copyfileobj(response, out)
    except (OSError, urllib.error.URLError) as error:
        msg = "the parameter {!r}: {} cannot be fetched: {}".format(name, url, error)
        raise TrainingError(msg) from None
    return file


def download_with_mlflow(uri: str, target: Path) -> str:
    """Let the project's own mlflow fetch what only it understands, such as `s3://` or `runs:/`.

    Raises:
        TrainingError: mlflow is missing or failed.
    """
    done = subprocess.run([sys.executable, "-m", "mlflow", "artifacts", "download", "-u", uri, "-d", str(target)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=3600,
                          check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        msg = "{} cannot be fetched by mlflow: {}".format(uri, last)
        raise TrainingError(msg)
    return lines[-1]
