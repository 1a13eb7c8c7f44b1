"""The parts that the design draws are there, and are reached in the way it draws."""

from __future__ import annotations

import ast
import importlib
from importlib.metadata import entry_points

import pytest

from fuseml_core.bootstrap import BUILT_IN
from fuseml_core.settings import from_environment
from fuseml_sdk.hookspecs import StoreSpecs
from fuseml_sdk.loading import load

KINDS = {"codeset", "runnable", "model", "dataset"}


@pytest.fixture(scope="module")
def plugins() -> dict[str, object]:
    """The built-in plugins, found as the server finds them."""
    return {point.name: load(point.value) for point in entry_points(group="fuseml.plugins") if point.name in BUILT_IN}


@pytest.fixture
def routes(tmp_path) -> set[tuple[str, str]]:
    """Method and path of everything that the HTTP server answers."""
    from fuseml_core.api.app import create_app

    settings = from_environment({"FUSEML_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})
    paths = create_app(settings).openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_r6_one_http_server_has_an_endpoint_for_each_store_and_for_the_catalogue(routes):
    """Codesets by project; artifacts of every kind; templates, pipelines and runs."""
    wanted = {
        ("GET", "/api/v1/projects/{project}/codesets"), ("POST", "/api/v1/projects/{project}/codesets"),
        ("GET", "/api/v1/artifacts"), ("GET", "/api/v1/artifacts/resolve"),
        ("GET", "/api/v1/templates"), ("GET", "/api/v1/projects/{project}/pipelines"),
        ("GET", "/api/v1/projects/{project}/runs"), ("GET", "/api/v1/projects/{project}/services"),
        ("GET", "/api/v1/extensions"),
    }
    assert wanted - routes == set()


def test_r7_r9_r131_the_built_in_stores_implement_the_one_abstract_store(plugins):
    """Git, files and the registry are plugins of the same family, and cover the four kinds."""
    hooks = {name for name in vars(StoreSpecs) if name.startswith("store_")}
    described = {}
    for name, plugin in plugins.items():
        offered = {hook for hook in hooks if hasattr(plugin, hook)}
        if offered:
            assert {"store_describe", "store_register", "store_get", "store_locate"} <= offered, name
            described[name] = set(plugin.store_describe().kinds)

    assert described == {"git": {"codeset"}, "oci": {"runnable"}, "files": {"model", "dataset"}}


def test_r9_r167_a_workload_agent_is_built_in_and_another_tool_serves(plugins, root):
    """The process agent is a plugin like any; serving comes with the extension `kserve`."""
    assert {name for name, plugin in plugins.items() if hasattr(plugin, "agent_submit")} == {"process"}
    assert (root / "bundles/kserve/runnables/predictor-kserve.yaml").is_file()


def test_r8_routers_call_use_cases_and_nothing_behind_them(modules):
    """Between the endpoints and the back-ends there is always a use case."""
    behind = ("fuseml_core.adapters", "fuseml_core.host", "fuseml_sdk.types", "sqlalchemy", "sqlmodel")
    wrong = [
        f"{module.name} imports {node.module}"
        for module in modules
        if module.name.startswith("fuseml_core.api.routers")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(behind)
    ]
    assert wrong == []


def test_r25_the_core_has_no_other_way_to_artifacts_than_stores(modules):
    """Use cases and engine run no git, unpack nothing and open no contents: they call the hooks of a store."""
    direct = {"subprocess", "shutil", "tarfile", "zipfile"}
    wrong = [
        f"{module.name} imports {alias.name}"
        for module in modules
        if module.name.startswith(("fuseml_core.engine", "fuseml_core.domain"))
        or (module.name.startswith("fuseml_core.service") and not module.name.startswith("fuseml_core.service.extensions"))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in direct
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_r26_each_kind_is_a_noun_of_the_command_line(kind):
    """Codesets, runnables, models and datasets can be listed and looked at."""
    from fuseml_core.cli.commands import COMMANDS

    module, _, attribute = COMMANDS[kind][0].partition(":")
    group = getattr(importlib.import_module(module), attribute)
    assert {"list", "get"} <= set(group.commands)


def test_r166_r168_every_role_has_commands_and_a_page(root):
    """Who only writes code; who composes pipelines; who writes runnables; who writes extensions; who installs them."""
    from fuseml_core.cli.commands import COMMANDS

    assert {"codeset", "pipeline", "run", "runnable", "bundle", "extension"} <= set(COMMANDS)
    for page in ("tutorial/first-model", "how-to/write-a-runnable", "how-to/package-an-extension"):
        assert (root / f"docs/{page}.md").is_file()
