"""What the architecture tests look at: the files of the repository and the syntax trees of the products' modules."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Import name of each distribution to the directory that holds it.
PACKAGES = {
    "fuseml_core": ROOT / "fuseml_core",
    "fuseml_registry": ROOT / "registry/src/fuseml_registry",
    **{path.name: path for path in sorted(ROOT.glob("plugins/*/src/*")) if (path / "__init__.py").is_file()},
}


@dataclass(frozen=True)
class Module:
    """One source file of a product, parsed."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Number of lines, blank ones and comments included."""
        return len(self.text.splitlines())

    @property
    def package(self) -> str:
        """Import name of the distribution."""
        return self.name.split(".", 1)[0]


def _module(path: Path, package: str, base: Path) -> Module:
    parts = (package, *path.relative_to(base).with_suffix("").parts)
    name = ".".join(part for part in parts if part != "__init__")
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, str(path)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    """Every module of every product, tests left out."""
    return [_module(path, package, base) for package, base in PACKAGES.items() for path in sorted(base.rglob("*.py"))]


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Every file that is, or would be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=60,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="session")
def test_names() -> dict[str, Path]:
    """Name of every test function, prefixed by its class, to the file it is in."""
    found: dict[str, Path] = {}
    for folder in (ROOT / "tests", *ROOT.glob("plugins/*/tests"), ROOT / "registry/tests"):
        for path in sorted(folder.rglob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    found[f"{path.relative_to(ROOT)}::{node.name}"] = path
    return found
