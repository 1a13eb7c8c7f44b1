"""Environments: found interpreters, locks, content-addressed virtual environments. Everything with the real uv."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from fuseml_sdk.environments import (
    IndexSettings,
    compile_lock,
    ensure_environment,
    find_python,
    inspect_python,
    remove_unused,
    trusted_authorities,
)
from fuseml_sdk.errors import InvalidInput, NotReady, Retryable

OFFLINE = IndexSettings(offline=True)
PYTHON = find_python()[0]


def make_wheel(folder: Path, name: str = "tiny", version: str = "1.0", source: str = "VALUE = 1\n") -> Path:
    """A wheel made by hand, so that no index is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    files = {f"{name}.py": source, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    rows = []
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{file},sha256={digest},{len(text.encode())}")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "\n".join([*rows, f"{info}/RECORD,,", ""]))
    return path


def value_in(python: Path, name: str = "tiny") -> str:
    done = subprocess.run([str(python), "-c", f"import {name}; print({name}.VALUE)"], capture_output=True, text=True,
                          check=True)
    return done.stdout.strip()


def test_an_environment_is_built_once(tmp_path: Path) -> None:
    wheel, said = make_wheel(tmp_path / "w"), []
    first = ensure_environment(tmp_path / "e", lock=None, python=PYTHON, wheels=[wheel], index=OFFLINE, log=said.append)
    again = ensure_environment(tmp_path / "e", lock="", python=PYTHON, wheels=[wheel], index=OFFLINE)
    assert first.built
    assert not again.built
    assert first.path == again.path
    assert first.path.name == first.digest
    assert value_in(first.python) == "1"
    assert any("tiny-1.0" in line for line in said)


def test_other_contents_are_another_environment(tmp_path: Path) -> None:
    one = ensure_environment(tmp_path / "e", lock="", python=PYTHON, wheels=[make_wheel(tmp_path / "a")], index=OFFLINE)
    two = ensure_environment(tmp_path / "e", lock="", python=PYTHON, index=OFFLINE,
                             wheels=[make_wheel(tmp_path / "b", source="VALUE = 2\n")])
    assert one.digest != two.digest
    assert value_in(two.python) == "2"


def test_a_lock_is_installed_with_hashes(tmp_path: Path) -> None:
    lock = compile_lock(["iniconfig==2.0.0"], PYTHON)
    assert "iniconfig==2.0.0" in lock
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    made = ensure_environment(tmp_path, lock=lock, python=PYTHON)
    subprocess.run([str(made.python), "-c", "import iniconfig"], check=True)
    with pytest.raises(InvalidInput, match="hash"):
        ensure_environment(tmp_path, lock="iniconfig==2.0.0\n", python=PYTHON)
    with pytest.raises(InvalidInput, match="Hash mismatch"):
        ensure_environment(tmp_path, lock=f"iniconfig==2.0.0 --hash=sha256:{'0' * 64}\n", python=PYTHON)


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(b"no zip")
    with pytest.raises(InvalidInput):
        ensure_environment(tmp_path / "e", lock="", python=PYTHON, wheels=[broken], index=OFFLINE)
    assert [p.name for p in (tmp_path / "e").iterdir() if len(p.name) == 64] == []


def test_requirements_that_contradict_each_other_are_explained() -> None:
    with pytest.raises(InvalidInput, match="iniconfig") as caught:
        compile_lock(["iniconfig==2.0.0", "iniconfig==1.1.1"])
    assert "unsatisfiable" in caught.value.message
    with pytest.raises(InvalidInput):
        compile_lock(["this is no requirement"])
    assert compile_lock([]) == ""


def test_settings_of_a_project_around_do_not_leak(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.uv]\nenvironments = ["sys_platform == \'win32\'"]\n')
    (tmp_path / "requirements.txt").write_text("-r more.txt\n")
    (tmp_path / "more.txt").write_text("iniconfig==2.0.0\n")
    lock = compile_lock(tmp_path / "requirements.txt", PYTHON)
    assert lock.startswith("iniconfig==2.0.0 ")
    assert "win32" not in lock


def test_network_trouble_is_told_apart(tmp_path: Path) -> None:
    dead = IndexSettings(index_url="http://someone:secret@127.0.0.1:9/simple")
    os.environ["UV_HTTP_RETRIES"] = "0"
    try:
        with pytest.raises(Retryable) as caught:
            compile_lock(["fuseml-nothing-of-this-name"], index=dead)
    finally:
        del os.environ["UV_HTTP_RETRIES"]
    assert "secret" not in str(caught.value)
    with pytest.raises(NotReady, match="offline"):
        compile_lock(["fuseml-nothing-of-this-name"], index=OFFLINE)


def test_interpreters_are_found_or_replaced_with_a_warning(tmp_path: Path) -> None:
    running = ".".join(map(str, sys.version_info[:2]))
    assert find_python(running) == (PYTHON, None)
    assert find_python(None) == (PYTHON, None)
    path, warning = find_python("3.99")
    assert path == PYTHON
    assert warning is not None
    assert "3.99" in warning
    assert running in warning
    with pytest.raises(InvalidInput, match=r"3\.99"):
        find_python("3.99", strict=True)
    with pytest.raises(InvalidInput):
        find_python("three")
    liar = tmp_path / "python3.99"
    liar.symlink_to(PYTHON)
    assert find_python("3.99", (str(tmp_path),))[1] is not None
    assert inspect_python(tmp_path / "nothing") is None


def test_named_interpreters_come_first(tmp_path: Path) -> None:
    running = ".".join(map(str, sys.version_info[:2]))
    mine = tmp_path / f"python{running}"
    mine.symlink_to(PYTHON)
    assert find_python(f"{running}.1", (str(tmp_path),))[0] == mine


def test_index_settings_reach_every_tool() -> None:
    found = IndexSettings(index_url="https://index.example/simple", proxy="http://proxy.example:3128",
                          ca_bundle="/ca.pem", offline=True).variables({"UV_INDEX_URL": "x", "SSL_CERT_FILE": "/y"})
    assert found["UV_DEFAULT_INDEX"] == found["PIP_INDEX_URL"] == "https://index.example/simple"
    assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://proxy.example:3128"
    assert found["SSL_CERT_FILE"] == found["GIT_SSL_CAINFO"] == "/ca.pem"
    assert found["UV_OFFLINE"] == "1"
    assert "UV_INDEX_URL" not in found


def test_uv_trusts_the_authorities_of_the_system_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch,
                                                                       tmp_path: Path) -> None:
    (tmp_path / "store.pem").touch()
    monkeypatch.setattr("fuseml_sdk.environments.index._SYSTEM_STORES", (str(tmp_path / "store.pem"),))
    assert IndexSettings().variables({})["UV_SYSTEM_CERTS"] == "1"
    assert IndexSettings().variables({"UV_SYSTEM_CERTS": "0"})["UV_SYSTEM_CERTS"] == "0"
    monkeypatch.setattr("fuseml_sdk.environments.index._SYSTEM_STORES", (str(tmp_path / "nothing"),))
    assert "UV_SYSTEM_CERTS" not in IndexSettings().variables({})


def test_whose_certificates_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is set, else what the environment says, else the system's, else nothing that is known."""
    (tmp_path / "store.pem").touch()
    monkeypatch.setattr("fuseml_sdk.environments.index._SYSTEM_STORES", (str(tmp_path / "store.pem"),))
    said = {"SSL_CERT_FILE": "/said.pem", "REQUESTS_CA_BUNDLE": "/requests.pem"}
    assert trusted_authorities("/set.pem", said) == "/set.pem"
    assert trusted_authorities("", said) == "/requests.pem"
    assert trusted_authorities("", {"SSL_CERT_FILE": "/said.pem"}) == "/said.pem"
    assert trusted_authorities("", {}) == str(tmp_path / "store.pem")
    monkeypatch.setattr("fuseml_sdk.environments.index._SYSTEM_STORES", (str(tmp_path / "nothing"),))
    assert trusted_authorities("", {}) == ""


def test_unused_environments_are_removed(tmp_path: Path) -> None:
    kept = ensure_environment(tmp_path / "e", lock="", python=PYTHON, index=OFFLINE)
    gone = ensure_environment(tmp_path / "e", lock="", python=PYTHON, wheels=[make_wheel(tmp_path / "w")], index=OFFLINE)
    assert remove_unused(tmp_path / "e", {kept.digest}, 3600) == []
    assert remove_unused(tmp_path / "e", {kept.digest}, 0, dry_run=True) == [gone.digest]
    assert remove_unused(tmp_path / "e", {kept.digest}, 0) == [gone.digest]
    assert kept.python.exists()
    assert not gone.path.exists()


def test_an_environment_whose_interpreter_vanished_is_rebuilt(tmp_path: Path) -> None:
    made = ensure_environment(tmp_path, lock="", python=PYTHON, index=OFFLINE)
    made.python.unlink()
    made.python.symlink_to("/nowhere/python3")
    assert ensure_environment(tmp_path, lock="", python=PYTHON, index=OFFLINE).built


BUILDER = """
import sys
from pathlib import Path
from fuseml_sdk.environments import IndexSettings, ensure_environment, find_python
made = ensure_environment(Path(sys.argv[1]), lock="", python=find_python()[0], wheels=[Path(w) for w in sys.argv[2:]],
                          index=IndexSettings(offline=True), log=lambda line: print(line, flush=True))
print("built" if made.built else "reused", flush=True)
"""


def builder(root: Path, *wheels: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(root), *map(str, wheels)], text=True,
                            stdout=subprocess.PIPE)


def test_concurrent_builders_build_once(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w")
    running = [builder(tmp_path / "e", wheel) for _ in range(4)]
    ends = [process.communicate(timeout=60)[0].splitlines()[-1] for process in running]
    assert sorted(ends) == ["built", "reused", "reused", "reused"]


@pytest.mark.full
def test_kill_9_during_a_build_leaves_a_usable_folder(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / "w", name=f"tiny{n}") for n in range(8)]
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        shutil.rmtree(tmp_path / "e", ignore_errors=True)
        process = builder(tmp_path / "e", *wheels)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        made = ensure_environment(tmp_path / "e", lock="", python=PYTHON, wheels=wheels, index=OFFLINE, timeout=60)
        assert [value_in(made.python, f"tiny{n}") for n in range(8)] == ["1"] * 8
