"""Installing extensions: real bundles, the real registry application, real uv environments, real processes."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions import component_id
from fuseml_core.domain.errors import Conflict, Failed, FusemlError, Invalid, NotFound, Refused
from fuseml_core.service.extensions import Options
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.client import RegistryClient
from fuseml_sdk.errors import InvalidInput


def test_r40_r169_an_extension_is_installed_from_the_registry_answers_and_is_uninstalled(world, tmp_path, lock):
    pushed = world.push(world.greeter(tmp_path / "source", lock))
    shown = world.install("greeter")
    assert (shown["name"], shown["version"], shown["state"]) == ("greeter", "0.1.0", "active")
    assert shown["digest"] == pushed.digest
    assert shown["source"] == str(pushed)
    assert shown["components"][0]["state"] == "ready"
    assert shown["templates"] == ["greeter/greeting"]
    assert world.followed == ["redetect"]
    assert world.generations.work() == {}
    assert any(text.startswith("downloading 1 of ") for text in world.progress)
    assert any(text.startswith("preparing environment (") for text in world.progress)

    record = world.records.get("greeter")
    builder = world.host.builder(component_id(record, "builder", "greeter"))
    assert builder.describe().makes == ["one"]
    from fuseml_sdk.types import FileListing

    prefix, pid = builder.detect(FileListing()).why.split()
    assert prefix == record.environment, "it runs in the extension's own environment"
    assert int(pid) == world.extensions.get("greeter")["components"][0]["pid"]
    shown = world.extensions.get("greeter")
    assert world.extensions.list() == [{key: shown[key] for key in world.extensions.list()[0]}]

    world.progress.clear()
    assert world.install("greeter:0.1.0")["digest"] == pushed.digest
    assert world.done["plan"]["changes"] == []

    world.extensions.uninstall(["greeter"])
    assert world.extensions.list() == []
    assert world.host.components() == []
    assert not Path(record.store).exists()
    assert not Path(record.environment).exists()
    assert not list((world.home / "extensions/content/sha256").iterdir())
    with pytest.raises(NotFound, match="not installed"):
        world.extensions.uninstall(["greeter"])


def test_r128_r172_templates_and_runnables_of_installed_extensions_are_a_catalog(world, tmp_path):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    world.install("alpha")
    assert world.catalog.template("greeting")["name"] == "alpha/greeting"
    runnable = world.catalog.runnable("hello", "alpha")
    digest = world.records.get("alpha").digest
    assert runnable["address"] == f"runnable://fuseml/alpha/hello@{digest}"
    assert Path(runnable["contents"].removeprefix("file://"), "runnables/hello.json").is_file()
    world.push(world.data_only(tmp_path / "b", "beta"))
    world.install("beta")
    with pytest.raises(Conflict, match="ambiguous: alpha/greeting, beta/greeting"):
        world.catalog.template("greeting")
    assert [entry["short"] for entry in world.catalog.templates()] == ["alpha/greeting", "beta/greeting"]
    with pytest.raises(NotFound, match="no template 'nothing'"):
        world.catalog.template("nothing")


def test_r171_an_upgrade_switches_after_the_health_check_and_keeps_what_is_pinned(world, tmp_path, lock):
    old = world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    new = world.push(world.greeter(tmp_path / "two", lock, version="0.2.0", marker="two"))
    world.pinned = {old.digest}
    assert world.install("greeter")["version"] == "0.2.0"
    assert [info.component.digest for info in world.host.components()] == [new.digest]
    assert world.records.by_digest(old.digest).state == "retired"
    assert Path(world.records.by_digest(old.digest).store, "extension.json").is_file()
    world.extensions.load_installed()
    assert world.records.by_digest(old.digest) is not None
    world.pinned = set()
    world.extensions.load_installed()
    assert world.records.by_digest(old.digest) is None, "what nothing pins goes at the next start"
    assert world.install("greeter:0.1.0")["version"] == "0.1.0", "and back again"
    assert world.records.by_digest(new.digest) is None
    assert world.nothing_is_half_made()


def written(log: Path, text: str) -> None:
    """Wait until a log, which is written while the caller goes on, has a text."""
    until = time.monotonic() + 30
    while not (log.is_file() and text in log.read_text()):
        assert time.monotonic() < until, f"{text} is not in {log}"
        time.sleep(0.05)


def test_a_broken_upgrade_leaves_the_old_version_serving(world, tmp_path, lock):
    world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    pid = world.extensions.get("greeter")["components"][0]["pid"]
    world.push(world.greeter(tmp_path / "two", lock, version="0.2.0", describe="raise RuntimeError('no voice today')"))
    with pytest.raises(Failed, match=r"extension greeter 0\.2\.0 \(builder greeter\) does not work: .*no voice today") as told:
        world.install("greeter")
    written(Path(told.value.hint.partition("What it wrote: ")[2]), "RuntimeError: no voice today")
    shown = world.extensions.get("greeter")
    assert (shown["version"], shown["components"][0]["pid"]) == ("0.1.0", pid)
    assert world.nothing_is_half_made()


def test_a_broken_extension_leaves_nothing(world, tmp_path, lock):
    world.push(world.greeter(tmp_path / "one", lock, describe="import os; os._exit(3)"))
    with pytest.raises(FusemlError, match="greeter"):
        world.install("greeter")
    assert world.extensions.list() == []
    assert world.host.components() == []
    assert world.nothing_is_half_made()


def test_an_environment_that_cannot_be_built_leaves_nothing(world, tmp_path, lock):
    wrong = f"no-such-distribution-of-anybody==1.0 --hash=sha256:{'0' * 64}\n"
    world.push(world.greeter(tmp_path / "one", wrong))
    with pytest.raises(FusemlError, match="environment of greeter 0.1.0 cannot be built"):
        world.install("greeter")
    assert world.extensions.list() == []
    assert world.nothing_is_half_made()


def test_bytes_that_the_registry_changed_are_refused(world, tmp_path):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    layer = build(tmp_path / "a").descriptor.layers[0]
    stored = [path for path in (tmp_path / "registry").rglob("*")
              if path.is_file() and path.stat().st_size == layer.size and layer.digest[7:] in str(path)]
    assert stored
    for path in stored:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FusemlError, match="digest"):
        world.install("alpha")
    assert world.extensions.list() == []
    assert world.nothing_is_half_made()
    for path in (world.home / "extensions/content/sha256").glob("*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, "what arrived whole may stay for the next try"


def test_r172_a_dependency_is_installed_first_from_the_same_registry(world, tmp_path):
    world.push(world.data_only(tmp_path / "base1", "base", "0.1.0"))
    world.push(world.data_only(tmp_path / "base2", "base", "0.2.0"))
    world.push(world.data_only(tmp_path / "base3", "base", "1.0.0"))
    world.push(world.data_only(tmp_path / "top", "top", more='[[dependencies]]\nname = "base"\nrange = ">=0.1,<1"\n'))
    world.install("top")
    assert any(text.startswith("base: downloading 1 of 2 (") for text in world.progress)
    assert [(e["name"], e["version"]) for e in world.extensions.list()] == [("base", "0.2.0"), ("top", "0.1.0")]
    with pytest.raises(Refused, match="the extension top depends on it"):
        world.extensions.uninstall(["base"])
    with pytest.raises(Conflict, match=r"top 0\.1\.0 \(installed\) needs base >=0\.1,<1"):
        world.install("base:1.0.0")
    world.extensions.uninstall(["base"], Options(force=True))
    assert [e["name"] for e in world.extensions.list()] == ["top"]


def test_of_development_builds_the_last_one_is_the_dependency(world, tmp_path):
    base = world.data_only(tmp_path / "base", "base")
    for text in ("one", "two", "three", "two"):
        (base / "README.md").write_text(text)
        last = world.push(base, dev=True)
    world.push(world.data_only(tmp_path / "top", "top", more='[[dependencies]]\nname = "base"\nrange = ">=0.1,<1"\n'))
    world.install("top")
    assert world.extensions.get("base")["digest"] == last.digest


def test_a_missing_or_unsuitable_dependency_is_explained(world, tmp_path):
    source = world.data_only(tmp_path / "top", "top", more='[[dependencies]]\nname = "base"\nrange = ">=2"\n')
    world.push(source)
    with pytest.raises(Conflict, match=r"top 0\.1\.0 needs base >=2, and there is no version"):
        world.install("top")
    world.push(world.data_only(tmp_path / "base", "base", "0.1.0"))
    with pytest.raises(Conflict, match=r"top 0\.1\.0 needs base >=2, and there is 0\.1\.0"):
        world.install("top")
    assert world.extensions.list() == []
    assert world.nothing_is_half_made()


def test_conflicts_and_engine_ranges_are_refused_with_the_reason(world, tmp_path):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    world.push(world.data_only(tmp_path / "b", "beta", more='[[conflicts]]\nname = "alpha"\nrange = "<1"\n'))
    world.install("alpha")
    with pytest.raises(Conflict, match=r"beta 0\.1\.0 conflicts with alpha <1"):
        world.install("beta")
    world.push(world.data_only(tmp_path / "c", "gamma", more='requires_fuseml = ">=7"\n'))
    with pytest.raises(Invalid, match="needs FuseML >=7; this is 0.1.0"):
        world.install("gamma")


def test_only_the_embedded_registry_is_trusted(world, tmp_path):
    with world.registry(tmp_path / "elsewhere") as other:
        pushed = push(build(world.data_only(tmp_path / "a", "alpha")), read_reference(f"oci://{other}/team/alpha", ""),
                      RegistryClient(other, insecure=True))
        with pytest.raises(Refused, match="not trusted") as refused:
            world.install(str(pushed))
        assert "--allow-unsigned" in refused.value.hint
        assert world.install(str(pushed), allow_unsigned=True)["source"] == str(pushed)


def test_pipelines_that_use_an_extension_keep_it(world, tmp_path):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    world.install("alpha")
    store = Path(world.records.get("alpha").store)
    world.users, world.pinned = ["the pipeline myproj/training"], {world.records.get("alpha").digest}
    with pytest.raises(Refused, match="the pipeline myproj/training uses it"):
        world.extensions.uninstall(["alpha"])
    world.extensions.uninstall(["alpha"], Options(force=True))
    assert (store / "extension.json").is_file(), "files stay while something pins them"
    world.pinned = set()
    world.extensions.load_installed()
    assert not store.exists()


def test_after_a_restart_components_are_known_and_nothing_is_started(world, tmp_path, lock):
    world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    world.host.shutdown()
    (world.home / "extensions/store/.tmp-left").mkdir()
    assert [record.name for record in world.extensions.load_installed()] == ["greeter"]
    assert [info.state for info in world.host.components()] == ["idle"]
    assert world.nothing_is_half_made()
    record = world.records.get("greeter")
    assert world.host.builder(component_id(record, "builder", "greeter")).describe().name == "greeter"


def test_two_installations_at_once_wait_for_each_other(world, tmp_path):
    names = [f"ext{number}" for number in range(4)]
    for name in names:
        world.push(world.data_only(tmp_path / name, name, more='[[dependencies]]\nname = "base"\n'))
    world.push(world.data_only(tmp_path / "base", "base"))
    errors = []

    def install(name):
        try:
            world.install(name)
        except FusemlError as error:
            errors.append(error)

    threads = [threading.Thread(target=install, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [e["name"] for e in world.extensions.list()] == ["base", *names]
    causes = [change["name"] for entry in world.start().history() for change in entry["members"]]
    assert len(set(causes)) == 5


def test_a_version_is_published_once_and_development_builds_replace_each_other(world, tmp_path):
    source = world.data_only(tmp_path / "a", "alpha")
    world.push(source)
    world.push(source)
    (source / "README.md").write_text("changed")
    with pytest.raises(InvalidInput, match=r"published already with other contents"):
        world.push(source)
    with pytest.raises(InvalidInput, match=r"names version 0\.7\.0, but the bundle is version 0\.1\.0"):
        world.push(source, "alpha:0.7.0")
    beta = world.data_only(tmp_path / "b", "beta")
    for text in ("one", "two", "three"):
        (beta / "README.md").write_text(text)
        pushed = world.push(beta, dev=True)
        assert world.install("beta")["digest"] == pushed.digest, "the last development build is meant"
    (beta / "README.md").write_text("one")
    again = world.push(beta, dev=True)
    assert world.install("beta")["digest"] == again.digest


@pytest.mark.parametrize(("reference", "message"), [
    ("nothing", "there is no extension 'nothing'"), ("Nothing", "not the name of an extension"), ("alpha:9.9.9", "9.9.9"),
    ("alphaa", "there is no extension 'alphaa'"), ("alpha@sha256:12", "64"), ("http://x/y", "scheme"), ("a/b", "registry"), ("alpha:!", "tag"),
])
def test_a_wrong_reference_has_one_clear_message(world, tmp_path, reference, message):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    with pytest.raises(FusemlError, match=message):
        world.install(reference)


def test_a_misspelt_name_is_answered_with_similar_ones(world, tmp_path):
    world.push(world.data_only(tmp_path / "a", "alpha"))
    with pytest.raises(NotFound) as misspelt:
        world.install("alhpa")
    assert "Did you mean alpha?" in misspelt.value.hint
    with pytest.raises(NotFound, match=r"'alpha' has no version 9\.9\.9") as missing:
        world.install("alpha:9.9.9")
    assert "fuseml extension info alpha" in missing.value.hint
