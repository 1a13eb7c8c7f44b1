"""`fuseml quickstart`: the whole of FuseML on an example, by the same commands that a user would type."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.cells import span
from fuseml_core.cli.context import connect
from fuseml_core.cli.git import Git
from fuseml_core.cli.render import echo
from fuseml_core.domain.errors import Failed, Invalid, NotFound

#: Bundles to push, and the extensions in them to install.
EXTENSIONS = ("mlflow", "kserve")
EXAMPLE = "diabetes"
TRAINING = ("training-pipeline", "mlflow-training", "mlflow_code=code://*")
SERVING = ("serving-pipeline", "kserve-serving", "model=model://*")
#: The first people of the example's data set: age, sex, bmi, bp, s1 to s6.
ROWS = "[[59, 2, 32.1, 101, 157, 93.2, 38, 4, 4.8598, 87], [48, 1, 21.6, 87, 183, 103.2, 70, 3, 3.8918, 69]]"
#: Seconds between two signs of life of a command that takes long.
TICK = 2.0
#: Seconds that a service may take to start.
PATIENCE = 120.0


@click.command()
@click.option("--project", default="quickstart", show_default=True, metavar="NAME", help="Project to work in.")
def quickstart(project: str) -> None:
    """Start the server, install MLflow and KServe, train and serve an example, ask it for a prediction.

    Prints each command it runs. Can be repeated at any time: what is there already is kept.
    """
    began = time.monotonic()
    root = repository()
    _refuse_remote()
    Git(root).run("version")  # so that its absence is said at once, not after the bundles were built
    bundles = sorted(path.parent for path in (root / "bundles").glob("*/extension.toml"))
    with _ready_wheels(bundles):
        _command("server", "start")
    _install(bundles)
    _prepare(project)
    _train(root, project)
    _command("pipeline", "results", "show", "--current-code", "--recursive", "--project", project)
    service = _predict(project)
    _farewell(project, service, time.monotonic() - began)


def repository() -> Path:
    """The root of the checkout that the command runs from.

    Raises:
        Invalid: It runs from an installation without bundles and examples.
    """
    here = Path.cwd()
    for root in (Path(__file__).resolve().parents[2], here, *here.parents):
        if (root / "bundles" / EXTENSIONS[0]).is_dir() and (root / "examples" / EXAMPLE).is_dir():
            return root
    raise Invalid("The quickstart needs the bundles and examples of FuseML's repository.",
                  hint="Clone the repository and run the command in it: uv run fuseml quickstart")


def _refuse_remote() -> None:
    from fuseml_core.settings import from_environment

    url = from_environment().url
    if url:
        raise Invalid(f"The quickstart works with the local server, but FUSEML_URL names {url}.",
                      hint="Run it with FUSEML_URL unset.")


@contextlib.contextmanager
def _ready_wheels(bundles: Sequence[Path]) -> Iterator[None]:
    """Have the wheels of the bundles built while something else is done, so that pushing finds them in the cache."""
    from fuseml_core.cli.bundle_places import build_bundle

    with ThreadPoolExecutor(thread_name_prefix="wheels") as pool:
        for folder in bundles:
            pool.submit(build_bundle, folder, dev=True)  # what goes wrong is said by the push, which tries again
        yield


def _install(bundles: Sequence[Path]) -> None:
    """Push all bundles of the repository as development versions and install what the example needs."""
    pushed = {folder.name: _pushed(folder) for folder in bundles}
    installed = {item["name"]: item["digest"] for item in connect().get("extensions")}
    for name in EXTENSIONS:
        if installed.get(name) == pushed[name]["digest"]:
            echo(f"\nExtension {name} {pushed[name]['version']} is installed already.")
        else:
            _command("extension", "install", f"{name}:{pushed[name]['version']}")


def _pushed(folder: Path) -> dict[str, Any]:
    """Build and push a bundle; returns what `bundle push --output json` prints."""
    arguments = ("bundle", "push", _shown(folder), "--dev")
    _announce(arguments)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        _run((*arguments, "--output", "json"))
    found: dict[str, Any] = json.loads(text.getvalue())
    echo(f"Pushed {found['name']} {found['version']}: {found['reference']}")
    return found


def _prepare(project: str) -> None:
    """Make and choose the project, add the pipelines; what exists is kept."""
    client = connect()
    if _exists(client, "projects", project):
        echo(f"\nProject {project} exists already.")
    else:
        _command("project", "create", project, "--description", "Made by the quickstart")
    _command("project", "set", project)
    for name, template, binding in (TRAINING, SERVING):
        if _exists(client, "projects", project, "pipelines", name):
            echo(f"\nPipeline {name} exists already.")
        else:
            _command("pipeline", "add", template, "--name", name, "--input", binding)


def _train(root: Path, project: str) -> None:
    """Push the example and wait; if it is there and was never trained with success, train it by hand."""
    _command("codeset", "push", _shown(root / "examples" / EXAMPLE), "--name", EXAMPLE, "--wait")
    client = connect()
    for name, _, _ in (TRAINING, SERVING):
        runs = client.get("projects", project, "runs", query={"pipeline": name, "limit": 1000})
        if not any(run["state"] == "succeeded" for run in runs):
            _command("run", "start", name, "--wait", *_missing_input(client, project, name))


def _missing_input(client: Any, project: str, pipeline: str) -> list[str]:
    """The binding that a run by hand needs where the pipeline's own is a wildcard."""
    name, kind = ("mlflow_code", "codeset") if pipeline == TRAINING[0] else ("model", "model")
    found = client.get("artifacts", query={"kind": kind, "project": project, "limit": 1})["items"]
    if not found:
        raise Failed(f"Pipeline {pipeline} did not run: there is no {kind} in project {project}.",
                     hint=f"See: fuseml run list --project {project}")
    return ["--input", f"{name}={found[0]['address']}"]


def _predict(project: str) -> dict[str, Any]:
    """Ask the served model for a prediction; returns the service."""
    service = _service(project)
    if service["state"] == "stopped":
        _command("service", "start", service["name"])
    if service["state"] != "ready":
        echo(f"\nService {service['name']} is starting.")
        with _signs_of_life():
            service = _until_ready(project)
    _command("service", "predict", service["name"], "--data", ROWS)
    return service


def _service(project: str) -> dict[str, Any]:
    """The service of the example's model; the serving pipeline may own others, of code that the user pushed.

    Raises:
        Failed: There is none.
    """
    services = connect().get("projects", project, "services")
    owned: list[dict[str, Any]] = [item for item in services if item["pipeline"] == SERVING[0]]
    if not owned:
        raise Failed(f"Pipeline {SERVING[0]} of project {project} has no service.",
                     hint=f"See: fuseml run get {SERVING[0]} --project {project}")
    return next((item for item in owned if item["name"] == EXAMPLE), owned[0])


def _until_ready(project: str) -> dict[str, Any]:
    """Wait for the service, which the server restores after it was stopped itself.

    Raises:
        Failed: It has failed, or is not ready in time.
    """
    until = time.monotonic() + PATIENCE
    while (service := _service(project))["state"] != "ready":
        if service["state"] == "failed" or time.monotonic() > until:
            why = service.get("message") or "no reason given"
            raise Failed(f"Service {service['name']} is {service['state']}: {why}",
                         hint=f"See: fuseml service logs {service['name']} --project {project}")
        time.sleep(0.3)
    return service


def _farewell(project: str, service: dict[str, Any], seconds: float) -> None:
    client = connect()
    server = client.get("server")
    base = client.base_url()
    echo(f"""
Done in {span(seconds)}.

  Service     {service['url']}
  Server      {base}
  Marketplace {base}/marketplace/
  State       {server.get('home') or client.settings.home}
  Code        git clone {base}/git/{project}/{EXAMPLE}.git
  What ran    fuseml run list, fuseml run get {TRAINING[0]}
  Push again  fuseml codeset push FOLDER --name NAME --wait
  Stop        fuseml server stop{_how_to_type()}""")


def _how_to_type() -> str:
    """What to do first so that `fuseml` can be typed alone; empty if it can be.

    `uv run` puts the environment's programs on the path of what it runs, and of nothing else.
    """
    here = Path(sys.executable).parent
    path = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry) != here]
    settings = [f"FUSEML_{name}={shlex.quote(os.environ[f'FUSEML_{name}'])}" for name in ("HOME", "PORT")
                if os.environ.get(f"FUSEML_{name}")]
    if shutil.which("fuseml", path=os.pathsep.join(path)) is None:
        settings.append(f'PATH={shlex.quote(str(here))}:"$PATH"')
    return f"\n\nTo type these commands, first: export {' '.join(settings)}" if settings else ""


def _exists(client: Any, *segments: str) -> bool:
    try:
        client.get(*segments)
    except NotFound:
        return False
    return True


def _shown(path: Path) -> str:
    """A path as a user in the current directory would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _command(*arguments: str) -> None:
    """Print a command and run it, saying how long it took if that was more than a second."""
    _announce(arguments)
    began = time.monotonic()
    _run(arguments)
    if time.monotonic() - began > 1:
        echo(f"({span(time.monotonic() - began)})")
    sys.stdout.flush()


def _announce(arguments: Sequence[str]) -> None:
    """Print a command as a user would type it."""
    echo(f"\n$ fuseml {shlex.join(arguments)}")
    sys.stdout.flush()


def _run(arguments: Sequence[str]) -> None:
    """Run a command in this process.

    Raises:
        Failed: It ended with an exit code that is not 0.
        FusemlError: Whatever the command raised.
    """
    from fuseml_core.cli.root import fuseml

    with contextlib.nullcontext() if "--wait" in arguments else _signs_of_life():  # --wait shows its own
        code = fuseml.main(args=list(arguments), prog_name="fuseml", standalone_mode=False)
    if isinstance(code, int) and code:
        raise Failed(f"fuseml {arguments[0]} ended with exit code {code}.")


@contextlib.contextmanager
def _signs_of_life() -> Iterator[None]:
    """Print on stderr every few seconds how long a command has been at work."""
    ended, began = threading.Event(), time.monotonic()

    def tick() -> None:
        while not ended.wait(TICK):
            click.echo(f"  ... {time.monotonic() - began:.0f} s", err=True)

    thread = threading.Thread(target=tick, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1.0)


