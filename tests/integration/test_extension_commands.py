"""`fuseml bundle` and `fuseml extension` against a real server, as a person types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

TEMPLATE = "name: greeting\ninputs: {code: {kind: codeset}}\nsteps:\n  hello: {runnable: hello, inputs: {code: inputs.code}}\n"
RUNNABLE = '{"name": "hello", "command": ["{python}", "-V"], "inputs": [{"name": "code", "kind": "codeset"}]}'


class Fuseml:
    """The command in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.env = {**os.environ, "FUSEML_HOME": str(home), "FUSEML_PORT": "0"}
        for name in ("FUSEML_URL", "XDG_RUNTIME_DIR", "FUSEML_PROJECT"):
            self.env.pop(name, None)

    def __call__(self, *arguments: str, code: int = 0, typed: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run([sys.executable, "-m", "fuseml_core.cli", *arguments], env=self.env, text=True,
                              input=typed, capture_output=True, timeout=120, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def fuseml(tmp_path_factory):
    command = Fuseml(tmp_path_factory.mktemp("home"))
    command("server", "start")
    yield command
    command("server", "stop", "--force")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source/runnables").mkdir(parents=True)
    (tmp_path / "source/templates").mkdir()
    (tmp_path / "source/extension.toml").write_text(
        'name = "greeter"\nversion = "0.1.0"\nsummary = "Says hello."\n'
        'permissions = [{name = "network", reason = "to greet"}, '
        '{name = "filesystem:read:/proc", reason = "to look"}]\n')
    (tmp_path / "source/runnables/hello.json").write_text(RUNNABLE)
    (tmp_path / "source/templates/greeting.yaml").write_text(TEMPLATE)
    return tmp_path / "source"


def test_r168_r169_r171_a_bundle_goes_from_a_folder_to_an_installed_extension_and_away(fuseml, source, tmp_path):
    file = str(tmp_path / "greeter.oci.tar")
    built = fuseml("bundle", "build", str(source), "-o", file).stdout
    assert "Built greeter 0.1.0" in built
    digest = built.split()[-1]
    assert json.loads(fuseml("bundle", "inspect", file, "-o", "json").stdout)["templates"][0]["name"] == "greeting"

    pushed = fuseml("bundle", "push", file)
    assert pushed.stdout.splitlines()[1].endswith(f"/extensions/greeter:0.1.0@{digest}")
    assert "uploading 1 of 3" in pushed.stderr
    assert "network: to greet" in fuseml("bundle", "inspect", "greeter").stdout

    installed = fuseml("extension", "install", "greeter")
    resolving, downloading = installed.stderr.splitlines()[:2]
    assert resolving == "resolving greeter"
    assert downloading.startswith("downloading 1 of 2 (")
    active, *permissions, templates = installed.stdout.splitlines()
    assert (active, templates) == ("Extension greeter 0.1.0 is active.", "Templates: greeter/greeting")
    in_vain, may_use = sorted(permissions)
    assert in_vain == ("It asks in vain for filesystem:read:/proc (refused: the server keeps its own files there): "
                       "to look")
    assert re.fullmatch(r"It may use network \((enforced by a filter of system calls|declared only: .+)\): to greet",
                        may_use)
    assert fuseml("extension", "install", "greeter").stdout == "Nothing changed: generation 1 has all of it.\n"
    [listed] = json.loads(fuseml("extension", "list", "-o", "json").stdout)
    assert (listed["name"], listed["digest"]) == ("greeter", digest)
    assert "Says hello." in fuseml("extension", "list").stdout
    told = fuseml("extension", "info", "greeter").stdout
    assert digest in told
    assert "filesystem:read:/proc (refused: the server keeps its own files there): to look" in told
    assert "greeting" in fuseml("pipeline", "template", "list").stdout

    fuseml("pipeline", "add", "greeting", "--name", "greet", "--input", "code=code://*")
    refused = fuseml("extension", "uninstall", "greeter", code=5).stderr
    assert "the pipeline default/greet uses it" in refused
    fuseml("pipeline", "remove", "greet")
    assert "uninstalled" in fuseml("extension", "uninstall", "greeter").stdout
    assert json.loads(fuseml("extension", "list", "-o", "json").stdout) == []


def test_what_goes_wrong_is_said_once_with_an_exit_code(fuseml, source, tmp_path):
    assert "there is no extension 'nothing'" in fuseml("extension", "install", "nothing", code=3).stderr
    assert "cannot be reached" in fuseml("extension", "install", "oci://registry.example/x/y:1.0.0", code=6).stderr
    assert "not installed" in fuseml("extension", "info", "nothing", code=3).stderr
    assert "not installed" in fuseml("extension", "uninstall", "nothing", code=3).stderr
    wrong = fuseml("bundle", "push", str(source), "other", code=2).stderr
    assert "does not end with 'greeter'" in wrong
    (source / "templates/greeting.yaml").write_text(TEMPLATE.replace("runnable: hello", "runnable: hallo"))
    broken = fuseml("bundle", "build", str(source), code=2).stderr
    assert "templates/greeting.yaml: steps.hello.runnable: the bundle has no runnable 'hallo'" in broken
    assert "Traceback" not in wrong + broken


def test_r99_settings_are_checked_shown_and_kept_over_an_upgrade(fuseml, source):
    manifest = ('name = "tuned"\nversion = "{}"\nsummary = "Has settings."\n[config_schema.properties]\n'
                'url = {{type = "string", pattern = "^https?://", description = "Where it is."}}\n'
                'retries = {{type = "integer"}}\ntoken = {{type = "string", writeOnly = true}}\n')
    (source / "extension.toml").write_text(manifest.format("0.1.0"))
    fuseml("bundle", "push", str(source))
    fuseml("extension", "install", "tuned")
    assert fuseml("extension", "configure", "tuned").stdout.splitlines() == [
        "No setting of tuned has a value.", "Not set: retries, token, url"]

    done = fuseml("extension", "configure", "tuned", "url=http://x?a=b", "retries=3", "--secret", "token", typed="pss-t\n")
    assert done.stdout.splitlines() == ["retries: 3", "token: ***", "url: http://x?a=b"]
    (source / "extension.toml").write_text(manifest.format("0.2.0"))
    fuseml("bundle", "push", str(source))
    fuseml("extension", "install", "tuned:0.2.0")
    assert "token: ***" in fuseml("extension", "info", "tuned").stdout
    info = json.loads(fuseml("extension", "info", "tuned", "-o", "json").stdout)
    assert (info["version"], info["settings"]) == ("0.2.0", {"retries": 3, "token": "***", "url": "http://x?a=b"})
    dropped = fuseml("extension", "configure", "tuned", "--unset", "url", "--unset", "token")
    assert dropped.stdout.splitlines() == ["retries: 3", "Not set: token, url"]

    for arguments, words in ((["uri=http://x"], "has no setting 'uri'"), (["url=x"], "'x' does not match"),
                             (["retries=many"], "'many' is not of type 'integer'"), (["--unset", "uri"], "'uri'"),
                             (["token=pss-t"], "token is a secret: write --secret token")):
        wrong = fuseml("extension", "configure", "tuned", *arguments, code=2).stderr
        assert words in wrong
        assert "pss-t" not in wrong
    assert "Settings of tuned: retries, token, url" in fuseml("extension", "configure", "tuned", "a=b", code=2).stderr
    assert "not installed" in fuseml("extension", "configure", "nothing", "a=b", code=3).stderr
    home = Path(fuseml.env["FUSEML_HOME"])
    assert not [p for p in (home / "logs").rglob("*") if p.is_file() and b"pss-t" in p.read_bytes()]
    fuseml("extension", "uninstall", "tuned")
    fuseml("extension", "install", "tuned")
    assert "No setting" in fuseml("extension", "configure", "tuned").stdout


def test_an_installation_goes_on_when_the_client_goes_away(fuseml, source):
    (source / "extension.toml").write_text('name = "patient"\nversion = "0.1.0"\nsummary = "Waits."\n')
    fuseml("bundle", "push", str(source))
    client = subprocess.Popen([sys.executable, "-m", "fuseml_core.cli", "extension", "install", "patient"],
                              env=fuseml.env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert client.stderr.readline() == "resolving patient\n"
    client.kill()
    client.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while "patient" not in fuseml("extension", "list").stdout:
        assert time.monotonic() < deadline
    fuseml("extension", "uninstall", "patient")


def test_bundles_are_built_and_inspected_without_a_server(source, tmp_path):
    fuseml = Fuseml(tmp_path / "nowhere")
    layout = str(tmp_path / "layout")
    assert "-dev." in fuseml("bundle", "build", str(source), "-o", layout, "--dev").stdout
    assert "greeting" in fuseml("bundle", "inspect", layout).stdout
    assert "greeting" in fuseml("bundle", "inspect", str(source)).stdout
    assert not (tmp_path / "nowhere").exists(), "no server was started"
