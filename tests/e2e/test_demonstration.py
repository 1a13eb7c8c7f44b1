"""Two extensions that no environment can hold together: both serve one model, and both are upgraded under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from uv import find_uv_bin

from fuseml_sdk.environments import compile_lock
from fuseml_sdk.errors import InvalidInput

from .conftest import ROOT, Project, Result, clean_environment, installation, new_project

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

PAGE = ROOT / "docs/how-to/serve-with-seldon.md"
KSERVE, SELDON = "kserve>=0.15", "seldon-core>=1.18"
ROWS = [[59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0],
        [48.0, 1.0, 21.6, 87.0, 183.0, 103.2, 70.0, 3.0, 3.8918, 69.0]]
#: The same question in the language of each server, and where its answer is.
ASK = {"kserve": ({"instances": ROWS}, lambda answer: answer["predictions"]),
       "seldon": ({"data": {"ndarray": ROWS}}, lambda answer: answer["data"]["ndarray"])}
SERVICES = {"kserve": "diabetes", "seldon": "diabetes-seldon"}
PIPELINES = {"kserve": "kserve-pipeline", "seldon": "seldon-pipeline"}
#: Clients of each service while both are upgraded, and calls that each service has to answer at least.
CLIENTS, CALLS = 3, 300


def resolve(*requirements: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What `uv pip compile` says about requirements on Python 3.11."""
    return subprocess.run([find_uv_bin(), "pip", "compile", "--quiet", "--no-config", "--python-version", "3.11", "-"],
                          input="\n".join(requirements), capture_output=True, text=True, timeout=300, cwd=home,
                          env=clean_environment(home))


def test_no_environment_holds_both(tmp_path):
    """uv itself refuses, and names what excludes what; each of the two alone can be resolved."""
    both = resolve(KSERVE, SELDON, home=tmp_path)
    assert both.returncode != 0
    said = " ".join(both.stderr.split())
    assert "No solution found when resolving dependencies" in said
    assert "requirements are unsatisfiable" in said
    for name in ("kserve", "seldon-core", "protobuf"):
        assert name in said
    for alone in (KSERVE, SELDON):
        found = resolve(alone, home=tmp_path)
        assert found.returncode == 0, found.stderr
        assert re.search(rf"^{alone.partition('>')[0]}==", found.stdout, re.MULTILINE)

    with pytest.raises(InvalidInput, match="seldon-core"):  # as FuseML would tell somebody who asked for both
        compile_lock([KSERVE, SELDON], python_version="3.11", universal=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Project]:
    """A model of this year's MLflow, trained before either extension is there, and then served by both."""
    with installation() as fuseml:
        fuseml.install("mlflow")
        project = new_project(fuseml, tmp_path_factory.mktemp("demonstration"))
        project("pipeline", "add", "mlflow-training", "--name", "training-pipeline", "--input", "mlflow_code=code://*")
        shutil.copytree(ROOT / "examples/diabetes", project.folder, dirs_exist_ok=True)
        project.push("diabetes")
        running = fuseml.state["pids"]
        for section in ("Install and serve", "Beside KServe"):
            follow(section, project)
        assert fuseml.state["pids"] == running, "installed at run time: no process of the server was started again"
        yield project


def follow(section: str, project: Project) -> list[Result]:
    """Type what a section of the how-to shows."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    commands = [shlex.split(line)[2:] for line in text.splitlines() if line.startswith("$ fuseml ")]
    assert commands
    return [(project if command[0] in ("pipeline", "run", "service") else project.fuseml)(*command) for command in commands]


def test_the_how_tos_commands_ask_the_service_and_read_its_log(served):
    """The page's prediction is that of the service's address; uv's refusal on it is shown by the test above."""
    asked, example = follow("Ask", served)
    assert asked.json["data"]["ndarray"] == pytest.approx(predictions(served, "seldon")[:1])
    assert asked.json["meta"]["tags"]["model"] == "diabetes"
    assert len(example.json["data"]["ndarray"]) == 2
    (log,) = follow("When it does not start", served)
    assert "Seldon Core 1.1" in log.out
    shown = PAGE.read_text(encoding="utf-8")
    assert f"{KSERVE}\n{SELDON}" in shown


def url_of(project: Project, extension: str) -> str:
    return project.json("service", "get", SERVICES[extension])["url"]


def predictions(project: Project, extension: str) -> list[float]:
    document, read = ASK[extension]
    return read(project.fuseml.post(url_of(project, extension), document))


def processes(project: Project, script: str) -> dict[int, Path]:
    """Processes that run a script of one of the services, and the Python of each."""
    found = {}
    for pid in project.fuseml.workload_processes(script):
        with contextlib.suppress(OSError):  # it may end while it is looked at
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if arguments[1:] and arguments[1].endswith(script):
                found[pid] = Path(arguments[0])
    return found


def interpreter_of(project: Project, script: str) -> Path:
    """The Python that runs a script of one of the services."""
    (python,) = set(processes(project, script).values())
    return python


def installed(python: Path) -> dict[str, str]:
    """Distributions by name in the environment of an interpreter, as that environment tells."""
    program = ("import json; from importlib.metadata import distributions\n"
               "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in distributions()}))")
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_r9_r130_both_serve_the_same_model_each_from_its_own_environment(served):
    """What the live processes have installed is what cannot be resolved together, and the answers are the same."""
    models = {service["model"] for service in served.json("service", "list")}
    assert {service["name"]: service["state"] for service in served.json("service", "list")} == dict.fromkeys(
        SERVICES.values(), "ready")
    assert len(models) == 1

    kserve = installed(interpreter_of(served, "kserve_server.py"))
    seldon = installed(interpreter_of(served, "files/server.py"))
    assert number(kserve["kserve"]) >= (0, 15)
    assert number(seldon["seldon-core"]) >= (1, 18)
    assert "seldon-core" not in kserve
    assert "kserve" not in seldon
    assert number(seldon["protobuf"]) < (4,) < (4, 25) <= number(kserve["protobuf"])

    model = served.json("model", "get", models.pop())
    program = ("import json, sys, mlflow.pyfunc, pandas\n"
               "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
               "names = model.metadata.get_input_schema().input_names()\n"
               "rows = pandas.DataFrame(json.loads(sys.argv[2]), columns=names)\n"
               "print(json.dumps(model.predict(rows).tolist()))")
    own = interpreter_of(served, "files/model.py")
    assert "seldon-core" not in installed(own)
    done = subprocess.run([own, "-c", program, urlsplit(model["location"]).path, json.dumps(ROWS)], text=True,
                          capture_output=True, timeout=120, check=True, env=served.fuseml.environment)
    expected = json.loads(done.stdout.splitlines()[-1])
    assert predictions(served, "kserve") == pytest.approx(expected, rel=1e-12)
    assert predictions(served, "seldon") == predictions(served, "kserve")


def test_both_environments_are_locked_with_hashes_and_were_built_by_the_system(served):
    """Seldon's lock is the bundle's; KServe's was made of it and the model's requirements when it was first needed."""
    for extension, pin in (("kserve", "kserve=="), ("seldon", "seldon-core==")):
        python = interpreter_of(served, {"kserve": "kserve_server.py", "seldon": "files/server.py"}[extension])
        assert python.is_relative_to(served.fuseml.home / "fz")
        locks = [*(served.fuseml.home / "fz").rglob("locks/*.lock"), *(served.fuseml.home / "fz").rglob("requirements.lock")]
        (lock,) = {text for text in (path.read_text() for path in locks) if re.search(f"^{pin}", text, re.MULTILINE)}
        blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
        assert len(blocks) > 20
        assert all("--hash=sha256:" in block for block in blocks)


class Client(threading.Thread):
    """Asks one service again and again, on a connection that it keeps or on a new one each time."""

    def __init__(self, url: str, extension: str, expected: list[float], *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self._target = urlsplit(url)
        document, self._read = ASK[extension]
        self._body, self._expected, self._keeps = json.dumps(document).encode(), expected, keeps
        self.answered, self.failures, self.done = 0, [], threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._target.netloc, timeout=60)
        while not self.done.is_set():
            try:
                connection.request("POST", self._target.path, self._body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status != 200 or self._read(json.loads(text)) != pytest.approx(self._expected, rel=1e-9):
                    self.failures.append(f"{answer.status} {text[:300]!r}")
                self.answered += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
            if not self._keeps or self.failures:
                connection.close()  # it opens another by itself
            self.done.wait(0.02)  # two cores are shared with both servers
        connection.close()


@contextlib.contextmanager
def load(project: Project) -> Iterator[dict[str, list[Client]]]:
    """Clients of both services; no call may have failed when it ends."""
    expected = predictions(project, "kserve")
    clients = {extension: [Client(url_of(project, extension), extension, expected, keeps=number % 2 == 0)
                           for number in range(CLIENTS)] for extension in SERVICES}
    everybody = [client for group in clients.values() for client in group]
    for client in everybody:
        client.start()
    try:
        yield clients
    finally:
        for client in everybody:
            client.done.set()
        for client in everybody:
            client.join(90)
    assert not any(client.is_alive() for client in everybody)
    assert [failure for client in everybody for failure in client.failures] == []


def newer(extension: str, folder: Path) -> Path:
    """Version 0.1.1 of a bundle of this repository; its predictor says so in its environment."""
    shutil.copytree(ROOT / "bundles" / extension, folder)
    manifest = folder / "extension.toml"
    manifest.write_text(manifest.read_text().replace('"0.1.0"', '"0.1.1"').replace("../../", f"{ROOT}/"))
    for runnable in (folder / "runnables").iterdir():
        runnable.write_text(runnable.read_text() + "env:\n  DEMONSTRATION: newer\n")
    return folder


def variables(pid: int) -> list[str]:
    """The environment variables of a process; none if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return []


def instance(project: Project, extension: str) -> str:
    return project.json("service", "get", SERVICES[extension])["instance"]


def test_r171_both_are_upgraded_under_load_without_a_failed_call(served, tmp_path):
    """Extensions first, then the pipelines, each replaced by a run, while clients of both services go on."""
    fuseml, before = served.fuseml, {extension: instance(served, extension) for extension in SERVICES}
    for extension in SERVICES:
        fuseml("bundle", "push", str(newer(extension, tmp_path / extension)))
    with load(served) as clients:
        assert "Extension kserve 0.1.1 is active." in fuseml("extension", "upgrade", "kserve").out
        assert "Pipeline kserve-pipeline is updated" in served("pipeline", "update", "kserve-pipeline").out
        assert served.json("run", "start", "kserve-pipeline", "--wait")["state"] == "succeeded"
        upgraded, updated, _run = follow("Upgrade while it serves", served)
        assert "Extension seldon 0.1.1 is active." in upgraded.out
        assert "Pipeline seldon-pipeline is updated" in updated.out
        for extension in SERVICES:
            fuseml.wait_for(lambda name=extension: instance(served, name) != before[name], 120, "the new instance")
        switched = {extension: sum(client.answered for client in group) for extension, group in clients.items()}

        def enough() -> bool:
            return all(sum(client.answered for client in group) >= max(CALLS, switched[extension] + 50)
                       for extension, group in clients.items())

        fuseml.wait_for(enough, 240, f"{CALLS} answers of each")
        for script in ("files/kserve_server.py", "files/server.py"):
            assert any("DEMONSTRATION=newer" in variables(pid) for pid in processes(served, script)), script
    assert {e["name"]: e["version"] for e in fuseml.json("extension", "list")} == {
        "mlflow": "0.1.0", "kserve": "0.1.1", "seldon": "0.1.1"}


def test_r171_they_are_taken_away_again(served):
    """Not while a pipeline uses them; without one, nothing of them goes on running."""
    refused = served.fuseml("extension", "uninstall", "seldon", code=5)
    assert "seldon-pipeline" in refused.err
    for extension, pipeline in PIPELINES.items():
        served("pipeline", "remove", pipeline)
        served.fuseml("extension", "uninstall", extension)
    assert [e["name"] for e in served.fuseml.json("extension", "list")] == ["mlflow"]
    assert served.json("service", "list") == []

    def gone() -> bool:
        return not any(processes(served, script) for script in ("kserve_server.py", "files/server.py", "files/model.py"))

    served.fuseml.wait_for(gone, 60, "the end of both services")
    assert len(served.json("model", "list")) == 1, "models stay"
