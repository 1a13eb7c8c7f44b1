from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest

from fuseml_core import __version__
from fuseml_core.gateway.routes import RouteTable
from fuseml_core.launcher.requests import ask
from fuseml_git.plugin import GitStore
from fuseml_sdk.types import RegisterRequest


def test_routes_are_read_from_the_file_at_start(tmp_path):
    """Predictions go on although the control process has not run since."""
    run = tmp_path
    table = {"version": 7, "services": {"p/a": {"endpoint": "unix:/x.sock", "instance": "fz-1", "predict_path": "/p"}}}
    (run / "routes.json").write_text(json.dumps(table))
    routes = RouteTable()
    routes.load(run / "routes.json")
    assert routes.version == 7
    assert str(routes.find("p", "a").endpoint) == "unix:/x.sock"
    (run / "routes.json").write_text("{broken")
    routes.load(run / "routes.json")
    assert routes.version == 7
    routes.load(run / "missing.json")


def test_r137_git_and_registry_are_mounted_in_the_data_process(data):
    status, _, body = data.request("GET", "/git/p/none.git/info/refs?service=git-upload-pack")
    assert (status, b"no such git repository" in body) == (404, True)
    assert data.request("GET", "/v2/")[0] == 200
    status, about = data.json("GET", "/healthz")
    assert (status, about["process"], about["pid"]) == (200, "data", data.process.pid)


def test_r169_the_marketplace_is_mounted_and_knows_its_server(data):
    """Pages of the registry's contents, which is empty yet; they know where they are and which FuseML asks."""
    status, headers, body = data.request("GET", "/marketplace/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'href="/marketplace/static/style-' in body
    assert f"FuseML {__version__}.".encode() in body
    assert data.json("GET", "/marketplace/api/search")[1]["total"] == 0
    assert data.request("GET", "/marketplace")[0] == 308
    assert data.request("GET", "/marketplace/", headers={"Host": "evil.example"})[0] == 421


def test_r35_git_works_through_the_data_process_without_the_control_process(data, tmp_path):
    store = GitStore()
    store.fuseml_configure({"root": str(data.settings.path("git"))}, "")
    store.store_register(RegisterRequest(kind="codeset", project="p", name="app"))
    url = f"http://127.0.0.1:{data.port}/git/p/app.git"
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    run = partial(subprocess.run, cwd=tmp_path, check=True, timeout=60, capture_output=True)
    run(["git", "init", "-q", "-b", "main"])
    (tmp_path / "train.py").write_text("pass\n")
    run(["git", "add", "train.py"])
    run(["git", *identity, "commit", "-qm", "First"])
    run(["git", "push", "-q", url, "main"])
    run(["git", "clone", "-q", url, "clone"])
    assert (tmp_path / "clone" / "train.py").read_text() == "pass\n"
    assert [e.aliases for e in store.store_events("0", 1).events] == [["main"]]


def test_without_the_control_process_the_api_is_unavailable_and_says_so(data):
    for method in ("GET", "POST"):
        status, headers, body = data.request(method, "/api/v1/projects", b"{}" if method == "POST" else None)
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert "fuseml server logs" in json.loads(body)["hint"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost", "[::1]:80", "LOCALHOST:8765", "ml.example.org", "ML.example.org:1"])
def test_our_own_names_are_answered(data, host):
    assert data.request("GET", "/healthz", headers={"Host": host})[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "evilml.example.org", "",
                                  "localhost.evil.example", "[::2]", "127.0.0.1@evil.example"])
def test_other_names_are_refused_against_dns_rebinding(data, host):
    for path in ("/healthz", "/api/v1/projects", "/git/p/a.git/info/refs?service=git-upload-pack", "/v2/", "/serve/p/a"):
        status, problem = data.json("GET", path, headers={"Host": host})
        assert (status, problem["code"]) == (421, "refused")


def test_pages_of_other_sites_may_not_change_anything(data):
    assert data.request("POST", "/api/v1/projects", b"{}", {"Origin": "https://evil.example"})[0] == 403
    assert data.request("POST", "/api/v1/projects", b"{}", {"Origin": "null"})[0] == 403
    assert data.request("POST", "/api/v1/projects", b"{}", {"Origin": f"http://127.0.0.1:{data.port}"})[0] == 503


def test_internal_paths_exist_on_the_unix_socket_only(data):
    assert data.request("PUT", "/internal/routes", b'{"services": {}}')[0] == 404
    assert data.request("GET", "/internal/instances/x", headers={"Host": "localhost"})[0] == 404
    assert ask(data.settings.data_socket, "GET", "/internal/routes") == {"version": 0, "services": {}}
    assert data.settings.data_socket.stat().st_mode & 0o077 == 0


def test_a_broken_application_hurts_nobody_else(data, environment, tmp_path):
    """An entry point that cannot be loaded is answered with the reason."""
    package = tmp_path / "site" / "broken-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[fuseml.http]\nbroken = no_such_module:create_app\n")
    code = ("from pathlib import Path; from fuseml_core.gateway.mounts import load_mounts; m = load_mounts(Path('/x'));"
            "print(m['broken'].error, m['git'].app is not None)")
    done = subprocess.run([sys.executable, "-c", code], env={**environment, "PYTHONPATH": str(tmp_path / "site")},
                          capture_output=True, text=True, check=True, timeout=60)
    assert "ModuleNotFoundError" in done.stdout
    assert done.stdout.strip().endswith("True")


def test_two_data_processes_do_not_share_a_home(data, environment):
    code = ("import fuseml_core.launcher.process as p; p.PREDECESSOR_TIMEOUT = 0.2;"
            "from fuseml_core.gateway.__main__ import main; main([])")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode != 0
    assert f"held by process {data.process.pid}" in done.stderr
    os.kill(data.process.pid, 0)
