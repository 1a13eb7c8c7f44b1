"""Plugins of earlier and later contracts meet this server: what works, what does not, and what people are told."""

from __future__ import annotations

import json
import shutil
import sysconfig
import threading
import venv
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fuseml_sdk
from fuseml_core.adapters.contracts import speakers
from fuseml_core.host.components import Component
from fuseml_core.service.contracts import Contracts
from fuseml_sdk import contract, deprecations, negotiation
from fuseml_sdk.compatibility import current
from fuseml_sdk.errors import Permanent, Unsupported
from fuseml_sdk.types import RunnableDescriptor, Workload

EXAMPLE = Path(__file__).parent / "example"
N = negotiation.PROTOCOLS[0]
DESCRIPTION = {"name": "old", "types": ["x"]}


class _Plugin(BaseHTTPRequestHandler):
    """A builder that answers what the test says, over HTTP and without the SDK."""

    protocol_version = "HTTP/1.1"
    description: dict

    def do_GET(self):
        self._answer(200, self.description)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(200, DESCRIPTION)

    def _answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def speaking(host, tmp_path):
    """Hosts a builder that describes itself as told, by address; gives the id of its component."""
    servers = []

    def start(protocols, hooks=("builder_describe", "builder_detect", "builder_build"), **more):
        description = {"protocols": protocols, "contract_digest": "sha256:of-another-contract", "sdk_version": "0.0.9",
                       "hooks": {hook: {} for hook in hooks}, "failure": None, **more}
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Plugin", (_Plugin,), {"description": description}))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        identifier = f"builder/other/old@{len(servers)}"
        host.add(Component(identifier, "other", "1.0.0", "", "builder", "old", "", "address", {}, tmp_path / "state",
                           address=f"http://127.0.0.1:{server.server_port}"))
        return identifier

    yield start
    host.shutdown(0.5)
    for server in servers:
        server.shutdown()
        server.server_close()


def info_of(host, identifier):
    return next(info for info in host.components() if info.component.id == identifier)


@pytest.mark.parametrize("protocols", [[N], [N - 1, N], [N, N + 1], [N - 1, N, N + 1]])
def test_r133_a_plugin_that_also_speaks_our_protocol_works(host, speaking, protocols):
    identifier = speaking(protocols)
    assert info_of(host, identifier).agreement is None
    assert host.builder(identifier).describe().types == ["x"]
    agreement = info_of(host, identifier).agreement
    assert (agreement.protocol, agreement.state, agreement.accepted) == (N, "older", True)
    assert agreement.theirs.digest == "sha256:of-another-contract"
    assert agreement.ours.digest == contract.digest()


@pytest.mark.parametrize(("protocols", "state", "remedy"), [
    ([N - 1], "too-old", "fuseml extension upgrade"), ([N + 1], "too-new", "Upgrade FuseML"),
    ([N - 1, N + 1], "too-new", "Upgrade FuseML"), ([], "unclear", "protocols")])
def test_r133_too_old_and_too_new_are_states_with_a_reason(host, speaking, protocols, state, remedy):
    identifier = speaking(protocols)
    with pytest.raises(Permanent) as refused:
        host.builder(identifier).describe()
    assert "extension other 1.0.0 (builder old)" in refused.value.message
    assert remedy in refused.value.hint
    info = info_of(host, identifier)
    assert (info.state, info.agreement.state, info.agreement.accepted) == ("failed", state, False)
    assert info.agreement.reason in info.last_crash


def test_a_hook_of_a_later_contract_is_named_and_left_alone(host, speaking):
    identifier = speaking([N], hooks=("builder_describe", "builder_dance"), sdk_version="99.0")
    assert host.builder(identifier).describe().name == "old"
    agreement = info_of(host, identifier).agreement
    assert (agreement.state, agreement.unknown) == ("newer", ("builder_dance",))
    assert agreement.missing == ("builder_build", "builder_detect")
    with pytest.raises(Unsupported, match="builder_build"):
        host.call(identifier, "builder_build", {"request": {"project": "p", "name": "n", "digest": "d",
                                                            "directory": "/x", "output": "/y"}})


def test_deprecations_that_a_plugin_uses_are_part_of_its_state(host, speaking):
    identifier = speaking([N], deprecations=[{"text": "the hook `builder_detect` is deprecated since 9"}])
    host.builder(identifier).describe()
    assert info_of(host, identifier).agreement.deprecations == ("the hook `builder_detect` is deprecated since 9",)


@pytest.mark.parametrize("hosting", ["in-process", "subprocess"])
def test_our_own_plugins_speak_the_same_contract(host, component, hosting):
    made = component("store", hosting)
    host.add(made)
    host.store(made.id).describe()
    agreement = info_of(host, made.id).agreement
    assert (agreement.state, agreement.deprecations) == ("same", ())
    assert "store_describe" in agreement.hooks


def test_deprecations_are_told_of_plugins_in_the_servers_process(host, component, monkeypatch):
    notice = deprecations.Deprecations("0.3").notice("the hook `store_get`", since="0.3", announced="2027-01-15",
                                                     removed_in="0.5")
    monkeypatch.setattr(deprecations, "used_by", lambda *_: [notice])
    made = component("store", "in-process")
    host.add(made)
    host.store(made.id).describe()
    assert info_of(host, made.id).agreement.deprecations == (notice.text,)


@pytest.fixture
def environment_with(tmp_path):
    """Makes an environment with an SDK of another version: ours with pieces of its text replaced."""

    def make(version, **edits):
        root = tmp_path / f"sdk-{version}"
        venv.create(root, with_pip=False, symlinks=True)
        packages = next((root / "lib").glob("python*/site-packages"))
        shutil.copytree(Path(fuseml_sdk.__file__).parent, packages / "fuseml_sdk",
                        ignore=shutil.ignore_patterns("__pycache__", "testing", "released"))
        (packages / "rest.pth").write_text(f"{sysconfig.get_path('purelib')}\n{EXAMPLE}\n")
        (packages / "fuseml_sdk/__init__.py").write_text(
            (packages / "fuseml_sdk/__init__.py").read_text().replace(fuseml_sdk.__version__, version))
        head = packages / "fuseml_sdk/schemas/v1/contract.json"
        head.write_text(head.read_text().replace(contract.digest(), f"sha256:{version}"))
        for name, (old, new) in edits.items():
            path = packages / "fuseml_sdk" / f"{name.replace('__', '/')}.py"
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new))
        return root / "bin" / "python"

    return make


def test_r133_a_plugin_with_an_earlier_sdk_serves_a_later_server(host, component, environment_with):
    """Its SDK knows neither a field of runnables, which are strict in files, nor an optional hook, nor a label."""
    python = environment_with(
        "0.0.9", types__runnables=("    open_parameters: bool = Field(", "    was_open: bool = Field("),
        hookspecs__stores=("def store_ui_url(", "def _store_ui_url("))
    agent = replace(component("agent"), python=python)
    host.add(agent)
    work = Workload(name="train-1", runnable=RunnableDescriptor(name="t", command=["true"], open_parameters=True))
    assert host.agent(agent.id).submit(work).name == "train-1"
    agreement = info_of(host, agent.id).agreement
    assert (agreement.state, agreement.theirs.sdk_version, agreement.theirs.digest) == ("older", "0.0.9", "sha256:0.0.9")
    assert next(speakers(host)).contract["sdk_version"] == "0.0.9"


def test_r133_a_plugin_with_a_later_sdk_serves_an_earlier_server(host, component, environment_with):
    """It returns a field that this server does not know, and has a hook that it never calls."""
    mark = "    @hookspec(firstresult=True)\n"
    get, later = f"{mark}    def store_get(", f"{mark}    def store_later(self) -> str:\n        ...\n\n"
    python = environment_with(
        "99.0.0", types__stores=("    kinds: list[str] = Field(", "    later: int = 7\n    kinds: list[str] = Field("),
        hookspecs__stores=(get, later + get))
    store = replace(component("store"), python=python)
    host.add(store)
    assert host.store(store.id).describe().kinds
    assert info_of(host, store.id).agreement.state == "newer"


def test_components_are_speakers_of_a_contract(host, component):
    """What runs in the server speaks its contract; of an environment without an SDK of its own only its process tells."""
    for hosting in ("in-process", "subprocess"):
        host.add(component("store", hosting))
    here, there = speakers(host)
    assert (here.hosting, here.contract) == ("in-process", current())
    assert (there.hosting, there.contract, there.agreement) == ("subprocess", None, None)
    assert [each["agreement"] and each["agreement"]["state"] for each in Contracts(lambda: [here, there]).compare()] == [
        "same", None]
