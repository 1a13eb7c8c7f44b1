"""The same source gives the same digest and the same file, whoever builds it, where, when and with which Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml_oci.bundles.scaffold import create
from fuseml_sdk.environments import find_python, inspect_python
from fuseml_sdk.environments.tool import find_uv

ROOT = Path(__file__).parents[3]
#: As another user it builds twice: once to load every module, for that user may not be able to read them.
BUILD = """
import json, os, sys
from pathlib import Path
from fuseml_oci.bundles import build, write
options = json.loads(sys.argv[1])
source, out = Path(options["source"]), Path(options["out"])
if options.get("uid"):
    build(source)
    os.setgroups([]); os.setgid(options["uid"]); os.setuid(options["uid"])
os.umask(options.get("umask", 0o022))
os.chdir("/")
built = build(source)
write(built, out / "x.oci.tar")
print(json.dumps([built.digest, os.getuid()]))
"""
VARIANTS = {
    "closed umask, locale C, far east, hash seed 0": {
        "umask": 0o077, "env": {"LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "0"}},
    "open umask, UTF-8, far west, hash seed 4242": {
        "umask": 0, "env": {"LC_ALL": "C.UTF-8", "LANGUAGE": "tr", "TZ": "Etc/GMT+12", "PYTHONHASHSEED": "4242"}},
    "another epoch, another user name and home": {
        "env": {"SOURCE_DATE_EPOCH": "1700000000", "USER": "ada", "LOGNAME": "ada", "HOME": "/nonexistent"}},
    "another uid": {"uid": 65534, "env": {"HOME": "/nonexistent"}},
    "optimised, epoch 0": {"env": {"PYTHONOPTIMIZE": "2", "SOURCE_DATE_EPOCH": "0"}},
}


def write_source(folder: Path, *, backwards: bool = False, old: bool = False) -> Path:
    """A bundle with files, an icon, a lock and finished wheels; the files are made in one order or the other."""
    original = folder.with_name(f"{folder.name}-original")
    create(original, "same-thing", "store")
    (original / "files/deep/er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "ä.txt", "deep/er/Z.sh"):
        (original / "files" / name).write_text(f"{name}\n")
    (original / "files/deep/er/Z.sh").chmod(0o700)
    wheels = sorted((original / "wheels").glob("*.whl"))
    text = (original / "extension.toml").read_text()
    (original / "extension.toml").write_text(
        text.replace('wheels = [".", ', "wheels = [").replace('plugin = "same_thing:SameThingStore"', 'plugin = "fuseml_sdk:x"'))
    assert wheels
    for path in sorted(original.rglob("*"), reverse=backwards):
        target = folder / path.relative_to(original)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755 if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else 0o644)
            if old:
                os.utime(target, (1, 1))
    shutil.rmtree(original)
    return folder


def run(python: Path, source: Path, out: Path, **options) -> tuple[str, bytes]:
    out.mkdir(parents=True)
    out.chmod(0o777)
    if os.geteuid() != 0:
        options.pop("uid", None)
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    argument = json.dumps({"source": str(source), "out": str(out), **options})
    done = subprocess.run([str(python), "-c", BUILD, argument], env=environment, capture_output=True, text=True,
                          timeout=300, check=False, cwd=out)
    assert done.returncode == 0, done.stderr
    digest, uid = json.loads(done.stdout)
    assert not options.get("uid") or uid == options["uid"]
    return digest, (out / "x.oci.tar").read_bytes()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users can reach: pytest's are closed to them, and TMPDIR may be."""
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    base = next(p for p in places if p.is_dir() and all(q.stat().st_mode & 0o001 for q in (p, *p.parents)))
    with tempfile.TemporaryDirectory(prefix="fuseml-same-", dir=base) as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture(scope="module")
def expected(folder) -> tuple[Path, tuple[str, bytes]]:
    source = write_source(folder / "source")
    return source, run(Path(sys.executable), source, folder / "out")


@pytest.mark.parametrize("what", VARIANTS)
def test_r170_the_same_bundle_under_other_circumstances(expected, folder, what):
    source, wanted = expected
    assert run(Path(sys.executable), source, folder / what.replace(" ", "-"), **VARIANTS[what]) == wanted


def test_r170_the_same_bundle_from_files_made_in_another_order_and_time(expected, tmp_path):
    source = write_source(tmp_path / "elsewhere", backwards=True, old=True)
    assert run(Path(sys.executable), source, tmp_path / "out") == expected[1]


@pytest.mark.full
def test_r170_the_same_bundle_by_every_python_that_is_installed(expected, tmp_path):
    """Minor and patch versions differ in zlib, tarfile, zipfile and json; none of it may show."""
    tried = [inspect_python(Path(sys.executable)).version]
    for minor in ("3.11", "3.12", "3.13", "3.14"):
        python, warning = find_python(minor)
        facts = inspect_python(python)
        if warning or facts is None or facts.version in tried:
            continue
        tried.append(facts.version)
        uv, venv = str(find_uv()), tmp_path / f"venv-{minor}"
        subprocess.run([uv, "venv", "--quiet", "--python", str(python), str(venv)], check=True, timeout=120)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(venv / "bin/python"), "--constraints",
                        str(ROOT / "constraints.txt"), "-e", str(ROOT / "plugins/fuseml-sdk"), "-e",
                        str(ROOT / "plugins/fuseml-oci")], check=True, timeout=600, capture_output=True)
        assert run(venv / "bin/python", expected[0], tmp_path / f"out-{minor}") == expected[1], facts.version
