"""What may be committed: nothing about one machine, one package index or one resolution of the dependencies."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Written in two halves, so that this file does not contain what it looks for.
INDEX_HOSTS = ["pypi." + "org", "pythonhosted." + "org", "crates." + "io", "npmjs." + "org", "proxy.golang." + "org",
               "deb.debian." + "org"]
MACHINE_PATH = re.compile(r"(?<![\w>})~.$*-])/" + r"(?:root|work)/[\w.]")
BINARY = {".png", ".ico", ".gz", ".whl", ".zip", ".tar"}


@pytest.fixture(scope="module")
def texts(files, root) -> dict[str, str]:
    """Every text file that is, or would be, committed."""
    return {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in files
        if path.suffix not in BINARY and path != Path(__file__)
    }


@pytest.fixture(scope="module")
def projects(root) -> dict[str, dict]:
    """The `pyproject.toml` of every distribution."""
    paths = [root / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml")), root / "registry/pyproject.toml"]
    return {str(path.relative_to(root)): tomllib.loads(path.read_text(encoding="utf-8")) for path in paths}


def _requirements(project: dict) -> list[Requirement]:
    """Everything a distribution asks for: to run, to build, by extra and by group."""
    lists = [
        project["project"].get("dependencies", []),
        project["build-system"]["requires"],
        *project["project"].get("optional-dependencies", {}).values(),
        *project.get("dependency-groups", {}).values(),
    ]
    return [Requirement(entry) for entries in lists for entry in entries if isinstance(entry, str)]


def _pins(root: Path) -> dict[str, tuple[Requirement, str]]:
    """Name to requirement and hashes, as `constraints.txt` has them."""
    text = (root / "constraints.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, _, hashes = line.partition(" --hash=")
            parsed = Requirement(requirement)
            pins[canonicalize_name(parsed.name)] = (parsed, hashes)
    return pins


def test_no_file_names_a_package_index(texts):
    """Which index serves packages is a setting of the installation."""
    assert {name: host for name, text in texts.items() for host in INDEX_HOSTS if host in text} == {}


def test_no_file_names_a_path_of_one_machine(texts):
    """A path outside the checkout is right on one machine only."""
    found = {name: match.group() for name, text in texts.items() if (match := MACHINE_PATH.search(text))}
    assert found == {}


def test_the_resolution_of_one_day_is_not_committed(root):
    """`uv.lock` names index hosts; `constraints.txt` is what pins."""
    tracked = subprocess.run(["git", "ls-files", "uv.lock"], cwd=root, check=True, capture_output=True, timeout=60)
    assert tracked.stdout == b""


def test_every_dependency_has_a_floor(projects):
    """Without floors a resolver may go back ten years to find a combination."""
    without = {
        f"{name}: {requirement}"
        for name, project in projects.items()
        for requirement in _requirements(project)
        if not any(spec.operator in (">=", "==", "~=") for spec in requirement.specifier)
    }
    assert without == set()


def test_constraints_are_hashed_and_name_no_url(root):
    """A pin without a hash or with a URL would tie the tests to an index."""
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    pins = _pins(root)

    assert "://" not in text
    assert len(pins) > 50
    assert [name for name, (_, hashes) in pins.items() if not re.match(r"sha256:[0-9a-f]{64}", hashes)] == []
    assert [name for name, (pin, _) in pins.items() if [s.operator for s in pin.specifier] != ["=="]] == []


def test_constraints_satisfy_every_requirement(root, projects):
    """`tox -e constraints` was run after the last change of a dependency."""
    pins = _pins(root)
    own = {canonicalize_name(project["project"]["name"]) for project in projects.values()}
    wrong = []
    for requirement in (r for project in projects.values() for r in _requirements(project)):
        name = canonicalize_name(requirement.name)
        if name in own or (requirement.marker and not requirement.marker.evaluate()):
            continue
        pin = pins.get(name)
        if pin is None or not requirement.specifier.contains(next(iter(pin[0].specifier)).version):
            wrong.append(f"{requirement} against {pin and pin[0]}")
    assert wrong == []


def test_tox_installs_every_distribution_of_the_workspace(root, projects):
    """`commands_pre` lists the folders by name; a new plugin must be added there."""
    text = (root / "tox.ini").read_text(encoding="utf-8")
    missing = [name for name in projects if name != "pyproject.toml" and f"--editable {Path(name).parent}" not in text]
    assert missing == []


def test_bundles_pin_what_builds_their_wheels(root):
    """Else a new hatchling changes the digest of an unchanged bundle; a wheel in two bundles is the same wheel."""
    sources = [path.parent for path in sorted(root.glob("bundles/*/extension.toml"))
               if tomllib.loads(path.read_text(encoding="utf-8")).get("environment", {}).get("wheels")]
    texts = {source.name: (source / "build-constraints.txt").read_text(encoding="utf-8") for source in sources}

    assert {"kserve", "mlflow"} <= set(texts)
    assert len(set(texts.values())) == 1
    assert all("hatchling==" in text and "--hash=sha256:" in text for text in texts.values())
