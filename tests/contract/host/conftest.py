"""A host in a temporary directory, and an environment of its own for the example extension."""

from __future__ import annotations

import itertools
import shutil
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import pytest

from fuseml_core.host import Component, PluginHost

EXAMPLE = Path(__file__).parent / "example"


@pytest.fixture(scope="session")
def extension_python(tmp_path_factory):
    """Interpreter of a virtual environment with the SDK and the example extension in it."""
    root = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(root, with_pip=False, symlinks=True)
    site_packages = next((root / "lib").glob("python*/site-packages"))
    parent = sysconfig.get_path("purelib")
    (site_packages / "example.pth").write_text(f"import site; site.addsitedir({parent!r})\n{EXAMPLE}\n")
    return root / "bin" / "python"


@pytest.fixture
def example_importable(monkeypatch):
    """The example extension can be imported here, freshly."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "example_extension", raising=False)


@pytest.fixture
def runtime_dir():
    """A directory with a short path, since socket addresses are short."""
    path = Path(tempfile.mkdtemp(prefix="fz-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def host(runtime_dir, tmp_path):
    """A host that is shut down afterwards."""
    it = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", drain_seconds=5)
    yield it
    it.shutdown()


@pytest.fixture
def component(tmp_path, extension_python, example_importable):
    """Makes components of the example extension."""
    numbers = itertools.count()

    def make(family="store", hosting="subprocess", *, plugin=None, config=None, identifier=None):
        number = next(numbers)
        return Component(
            id=identifier or f"{family}-{number}", extension="example", version="1.2.3", digest="sha256:0", family=family,
            name="toy", plugin=plugin or f"example_extension:{family.capitalize()}", hosting=hosting, config=config or {},
            state_dir=tmp_path / f"state-{number}", python=extension_python if hosting == "subprocess" else None,
            # The environment of the tests leads into the source tree by .pth files; those of extensions lead nowhere.
            readable=(EXAMPLE, *map(Path, sys.path)))

    return make
