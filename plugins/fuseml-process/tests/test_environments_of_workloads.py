"""Environments of workloads: from the runnable, from an input, none; and contents from a registry."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml_process.shim.failures import StepFailed
from fuseml_process.shim.oci import CONFIG_TYPE, FILES_TYPE, fetch_runnable
from fuseml_sdk.archives import tar_bytes
from fuseml_sdk.environments import compile_lock, find_uv
from fuseml_sdk.errors import InvalidInput

SHOW = "import iniconfig, sys; print(sys.prefix)"


def make_wheel(folder: Path, name: str = "tiny") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    files = {f"{name}.py": "VALUE = 1\n", f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
             f"{info}/entry_points.txt": f"[console_scripts]\n{name}-hello = {name}:hello\n"}
    files[f"{name}.py"] += "def hello(): print('hello from', __name__)\n"
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{file},sha256={digest},{len(text)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def test_lock_and_wheels_of_the_runnable(bench: Any, tmp_path: Path) -> None:
    contents = tmp_path / "contents"
    make_wheel(contents / "wheels")
    (contents / "requirements.lock").write_text(compile_lock(["iniconfig==2.0.0"]))
    fields = {"environment": {"lock": "requirements.lock", "wheels": "wheels"}, "contents": {"uri": contents.as_uri()}}
    status = bench.run(SHOW, **fields)
    assert status.state == "succeeded", status
    assert str(bench.base / "envs") in bench.log(status.name)
    assert "[fuseml] installing 1 locked" in bench.log(status.name)
    again = bench.run(["tiny-hello"], **fields)  # a script of the environment is found on PATH
    assert bench.log(again.name) == "hello from tiny\n"
    assert again.timings["environment"] < 0.5


def test_a_missing_lock_or_bad_lock_fails_with_the_reason(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.lock").write_text("iniconfig==2.0.0\n")
    for lock, words in (("none.lock", "missing"), ("bad.lock", "hash"), ("../bad.lock", "inside")):
        status = bench.run("pass", environment={"lock": lock}, contents={"uri": tmp_path.as_uri()})
        assert (status.state, status.reason) == ("failed", "Environment")
        assert words in status.message


def test_another_python_version_is_a_warning_or_an_error(bench: Any) -> None:
    status = bench.run("pass", environment={"python": "3.99"})
    assert status.state == "succeeded"
    assert "3.99" in status.warnings[0]
    bench.start(strict_python=True)
    assert bench.run("pass", environment={"python": "3.99"}).reason == "Environment"


@pytest.mark.parametrize("carried", ["lock", "requirements"])
def test_r42_the_environment_of_an_input(bench: Any, tmp_path: Path, carried: str) -> None:
    model = tmp_path / "model"
    (model / ".fuseml").mkdir(parents=True)
    if carried == "lock":
        (model / ".fuseml/requirements.lock").write_text(compile_lock(["iniconfig==2.0.0"]))
        (model / ".fuseml/environment.json").write_text(json.dumps({"python": "3.11"}))
    else:
        (model / "requirements.txt").write_text("iniconfig==2.0.0\n")
        (model / "python_env.yaml").write_text('python: "3.11.7"\nbuild_dependencies:\n- pip\n')
    contents = tmp_path / "contents"
    make_wheel(contents / "wheels")
    for _ in range(2):
        status = bench.run(SHOW + "; import tiny", environment={"from_input": "model", "wheels": "wheels"},
                           contents={"uri": contents.as_uri()}, takes=[{"name": "model", "kind": "model"}],
                           inputs=[{"name": "model", "kind": "model", "location": {"uri": model.as_uri()}}])
        assert status.state == "succeeded", status
    assert status.warnings == []
    assert len(list((bench.base / "cache/locks").glob("*.lock"))) == (carried == "requirements")


def test_r42_further_environments_hold_what_the_first_excludes(bench: Any, tmp_path: Path) -> None:
    """One distribution in two versions: the program of the first environment starts that of the second."""
    model, contents = tmp_path / "model", tmp_path / "contents"
    (model / ".fuseml").mkdir(parents=True)
    contents.mkdir()
    (model / ".fuseml/requirements.lock").write_text(compile_lock(["iniconfig==2.0.0"]))
    (contents / "own.lock").write_text(compile_lock(["iniconfig==2.1.0"]))
    show = "from importlib.metadata import version; print('iniconfig', version('iniconfig'), flush=True)"
    code = f"{show}; import subprocess, sys; subprocess.run([sys.argv[1], '-c', {show!r}], check=True)"
    given = {"environment": {"lock": "own.lock"}, "contents": {"uri": contents.as_uri()},
             "takes": [{"name": "model", "kind": "model"}],
             "inputs": [{"name": "model", "kind": "model", "location": {"uri": model.as_uri()}}]}
    command = ["{python}", "-c", code, "{python.model}"]
    status = bench.run(command, environments={"model": {"from_input": "model"}}, **given)
    assert status.state == "succeeded", (status, bench.log(status.name))
    said = [line for line in bench.log(status.name).splitlines() if line.startswith("iniconfig")]
    assert said == ["iniconfig 2.1.0", "iniconfig 2.0.0"]

    missing = bench.run(command, environments={"model": {"lock": "none.lock"}}, **given)
    assert (missing.state, missing.reason) == ("failed", "Environment")
    with pytest.raises(InvalidInput, match=r"\{python\.model\}"):
        bench.submit(command, **given)
    with pytest.raises(InvalidInput, match="both a lock and an input"):
        bench.submit(command, environments={"model": {"from_input": "model", "lock": "own.lock"}}, **given)


def test_an_input_without_environment_is_explained(bench: Any, tmp_path: Path) -> None:
    status = bench.run("pass", environment={"from_input": "model"}, takes=[{"name": "model", "kind": "model"}],
                       inputs=[{"name": "model", "kind": "model", "location": {"uri": tmp_path.as_uri()}}])
    assert status.reason == "Environment"
    assert "requirements.txt" in status.message


class Registry:
    """Just enough of a registry to serve one artifact, faithfully or not."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.redirect = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Authorization")))
                data = outer.blobs.get(self.path.rsplit("/", 1)[1])
                if outer.redirect and "/blobs/" in self.path:
                    self.send_response(307)
                    self.send_header("Location", outer.redirect + self.path)
                    self.end_headers()
                    return
                self.send_response(200 if data is not None else 404)
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def put(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    def push(self, tar: bytes, config: bytes) -> str:
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "artifactType": "application/vnd.fuseml.runnable.v1+json",
                    "config": {"mediaType": CONFIG_TYPE, "digest": self.put(config), "size": len(config)},
                    "layers": [{"mediaType": FILES_TYPE, "digest": self.put(tar), "size": len(tar)}]}
        return f"oci://{self.host}/runnables/p/r@{self.put(json.dumps(manifest).encode())}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def registry() -> Iterator[Callable[[], Registry]]:
    made: list[Registry] = []

    def make() -> Registry:
        made.append(Registry())
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_contents_come_from_a_registry_once(bench: Any, tmp_path: Path, registry: Callable[[], Registry]) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/main.py").write_text("print('from the registry')\n")
    server = registry()
    uri = server.push(tar_bytes(tmp_path / "files"), b'{"name": "r"}')
    for _ in range(2):
        status = bench.run(["{python}", "{runnable}/main.py"], contents={"uri": uri})
        assert bench.log(status.name) == "from the registry\n", status
    assert len(server.requests) == 3
    kept = bench.base / "cache/runnables" / uri.rsplit(":", 1)[1]
    assert (kept / "runnable.json").read_bytes() == b'{"name": "r"}'
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


@pytest.mark.parametrize("lie", ["manifest", "layer", "longer", "missing"])
def test_a_registry_that_lies_is_not_believed(tmp_path: Path, registry: Callable[[], Registry], lie: str) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/main.py").write_text("print('good')\n")
    server, tar = registry(), tar_bytes(tmp_path / "files")
    uri = server.push(tar, b"{}")
    layer = "sha256:" + hashlib.sha256(tar).hexdigest()
    if lie == "manifest":
        server.blobs[uri.rsplit("@", 1)[1]] += b" "
    elif lie == "layer":
        server.blobs[layer] = tar.replace(b"good", b"evil")
    elif lie == "longer":
        server.blobs[layer] += b"\0" * 512
    else:
        del server.blobs[layer]
    with pytest.raises(StepFailed):
        fetch_runnable(uri, tmp_path / "cache", {})
    assert list((tmp_path / "cache").iterdir()) == []


def test_credentials_do_not_follow_redirects(tmp_path: Path, registry: Callable[[], Registry]) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a")
    first, second = registry(), registry()
    uri = first.push(tar_bytes(tmp_path / "files"), b"{}")
    second.blobs, first.redirect = first.blobs, f"http://{second.host}"
    fetch_runnable(uri, tmp_path / "cache", {"Authorization": "Bearer secret"})
    assert {token for _path, token in first.requests} == {"Bearer secret"}
    assert {token for _path, token in second.requests} == {None}


def test_only_digests_and_https_are_accepted(tmp_path: Path) -> None:
    for uri in ("oci://localhost/r:latest", "oci://localhost/../r@sha256:" + "0" * 64, "oci://user@host/r@sha256:" + "0" * 64):
        with pytest.raises(StepFailed, match="form"):
            fetch_runnable(uri, tmp_path, {})


def test_uv_in_a_workload_uses_the_cache_of_the_servers_user(bench: Any, monkeypatch: pytest.MonkeyPatch,
                                                             tmp_path: Path) -> None:
    """Where `uv cache dir` says, although the workload's HOME is its own."""
    ask = ("import os, subprocess, sys; "
           "print(subprocess.check_output([sys.argv[1], 'cache', 'dir'], text=True), os.environ['HOME'])")
    settings: list[dict[str, str]] = [{"UV_CACHE_DIR": str(tmp_path / "set")}, {"XDG_CACHE_HOME": str(tmp_path / "xdg")},
                                      {"XDG_CACHE_HOME": "relative"}, {}]
    for variables in settings:
        for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": str(tmp_path / "home"), **variables}.items():
            monkeypatch.setenv(name, value)
        own = subprocess.run([find_uv(), "cache", "dir"], cwd=tmp_path, capture_output=True, text=True, check=True)

        status = bench.run(["{python}", "-c", ask, str(find_uv())])

        seen, home = bench.log(status.name).split()
        assert seen == own.stdout.strip()
        assert home.startswith(str(bench.root))
