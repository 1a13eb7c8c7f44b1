"""Which part may import which: the rules of docs/explanation/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

BANNED_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}


def _imports(tree: ast.Module) -> set[str]:
    """Absolute module names that a module imports anywhere, functions included."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def test_r2_the_domain_imports_the_standard_library_only(modules):
    """A framework, a database or a tool in the domain would bind what FuseML is to how it is built today."""
    allowed = {*sys.stdlib_module_names, "__future__"}
    wrong = {
        f"{module.name} imports {name}"
        for module in modules
        if module.name.startswith("fuseml_core.domain")
        for name in _imports(module.tree)
        if name.split(".")[0] not in allowed and not name.startswith("fuseml_core.domain")
    }
    assert wrong == set()


def test_r2_import_contracts_are_kept(root: Path):
    """The rings of the core, and the language between the core and its plugins (.importlinter)."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=root, capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_published_language_needs_pluggy_and_pydantic_only(modules):
    """Whatever the SDK requires, it forces into the environment of every extension."""
    brought_by_pydantic = {"pydantic_core", "typing_extensions"}
    asked_only_if_there = {"uv"}  # says where its executable is; PATH is asked otherwise
    allowed = {*sys.stdlib_module_names, *brought_by_pydantic, *asked_only_if_there,
               "__future__", "fuseml_sdk", "pluggy", "pydantic"}
    # Extras, which nobody gets who does not ask for them: serving on TCP, and the kit for pytest.
    extras = {("fuseml_sdk.serve.tcp", "uvicorn"), ("fuseml_sdk.testing.pytest_plugin", "pytest"),
              ("fuseml_sdk.testing.classes", "pytest")}
    wrong = {
        f"{module.name} imports {name}"
        for module in modules
        if module.package == "fuseml_sdk"
        for name in _imports(module.tree)
        if name.split(".")[0] not in allowed and (module.name, name.split(".")[0]) not in extras
    }
    assert wrong == set()


def test_no_module_is_named_for_nothing(modules):
    """A module is one noun."""
    assert {module.name for module in modules if module.name.rsplit(".", 1)[-1] in BANNED_NAMES} == set()
