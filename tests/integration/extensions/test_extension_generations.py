"""Generations of extensions: plans, atomic switches, rollback, retention, locks, offline and watching."""

from __future__ import annotations

import threading
import time
import tomllib
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions import RegistryBundles
from fuseml_core.domain.errors import Conflict, FusemlError, Invalid, NotFound, Refused, Unavailable
from fuseml_core.service.extensions import Options
from fuseml_core.service.extensions.ports import Wish
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.client import RegistryClient


def versions(world) -> dict[str, str]:
    return {item["name"]: item["version"] for item in world.extensions.list()}


def needs(name: str, range_: str) -> str:
    return f'[[dependencies]]\nname = "{name}"\nrange = "{range_}"\n'


def dying(folder: Path) -> tuple[Path, str]:
    """Code of a component that passes the check before the switch, dies a little later and does not come back."""
    flag = folder / "flags" / "dead"
    flag.parent.mkdir()
    dies = (f"import threading, time, os, pathlib\n        if pathlib.Path({str(flag)!r}).exists(): raise RuntimeError('worn out')\n"
            f"        pathlib.Path({str(flag)!r}).touch()\n"
            "        threading.Timer(0.8, lambda: os._exit(7)).start()")
    return flag, dies


@pytest.fixture
def kept(world):
    """A world that keeps ten generations."""
    world.extensions = world.start(keep=10)
    return world


def test_r171_a_dry_run_shows_sizes_permissions_dependencies_and_trust_and_changes_nothing(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "base", "base"))
    kept.push(kept.data_only(tmp_path / "one", "top", more='permissions = [{name = "network", reason = "to ask"}]\n' + needs("base", ">=0.1")))
    done = kept.extensions.install(["top"], Options(dry_run=True))
    assert done["generation"] is None
    assert [(c["action"], c["name"], c["to"], c["requested"]) for c in done["plan"]["changes"]] == [
        ("install", "base", "0.1.0", False), ("install", "top", "0.1.0", False)]
    base, top = done["plan"]["changes"]
    assert base["wanted_by"] == ["top 0.1.0 (>=0.1)"]
    asked, = top["permissions"]["added"]
    assert (asked["name"], asked["reason"]) == ("network", "to ask")
    assert (asked["enforced"], asked["how"]) == kept.host.isolation.judge("network")
    assert base["download_bytes"] == base["size_bytes"] > 0
    assert top["trust"]["reason"] == "it is in this server's own registry"
    assert top["environment"] == "none"
    assert kept.extensions.list() == []
    assert kept.extensions.history() == []
    assert not (kept.home / "extensions/store").exists()

    kept.install("top")
    kept.push(kept.data_only(tmp_path / "two", "top", "0.2.0", 'permissions = [{name = "secrets:x", reason = "to know"}]\n' + needs("base", ">=0.1")))
    [change] = kept.extensions.upgrade([], Options(dry_run=True))["plan"]["changes"]
    assert (change["action"], change["from"], change["to"]) == ("upgrade", "0.1.0", "0.2.0")
    assert [p["name"] for p in change["permissions"]["added"]] == ["secrets:x"]
    assert [p["name"] for p in change["permissions"]["removed"]] == ["network"]
    assert change["download_bytes"] < change["size_bytes"], "layers that both versions have are here already"
    assert versions(kept) == {"base": "0.1.0", "top": "0.1.0"}


def test_r171_every_change_is_a_generation_and_rollback_goes_back_without_the_registry(kept, tmp_path, lock):
    kept.push(kept.greeter(tmp_path / "one", lock))
    kept.push(kept.data_only(tmp_path / "a", "alpha"))
    kept.install("greeter", "alpha")
    kept.push(kept.greeter(tmp_path / "two", lock, version="0.2.0", marker="two"))
    kept.extensions.upgrade(["greeter"])
    kept.extensions.uninstall(["alpha"])
    history = kept.extensions.history()
    assert [(g["number"], g["cause"], g["changes"]) for g in history] == [
        (3, "uninstall alpha", ["- alpha 0.1.0"]), (2, "upgrade greeter", ["↑ greeter 0.1.0 → 0.2.0"]),
        (1, "install greeter, alpha", ["+ alpha 0.1.0", "+ greeter 0.1.0"])]
    assert history[0]["current"]
    assert history[0]["members"][0]["trust"]["rule"] == "embedded/**"

    dead = RegistryBundles(lambda: "http://127.0.0.1:9", kept.home / "extensions/content", kept.records)
    kept.bundles, registry_before = dead, kept.bundles
    kept.extensions = kept.start(keep=10)
    planned = kept.extensions.rollback(1, Options(dry_run=True))["plan"]
    assert [(c["action"], c["name"]) for c in planned["changes"]] == [("install", "alpha"), ("downgrade", "greeter")]
    assert planned["download_bytes"] == 0
    done = kept.extensions.rollback(1)
    assert done["generation"] == 4
    assert versions(kept) == {"alpha": "0.1.0", "greeter": "0.1.0"}
    assert kept.extensions.get("greeter")["components"][0]["state"] == "ready"
    assert kept.extensions.history()[0]["cause"] == "rollback to 1"
    assert kept.extensions.rollback()["plan"]["cause"] == "rollback to 3"
    assert versions(kept) == {"greeter": "0.2.0"}
    with pytest.raises(NotFound, match="no generation 77"):
        kept.extensions.rollback(77)
    with pytest.raises(Conflict, match="in force already"):
        kept.extensions.rollback(5)
    kept.bundles = registry_before


def test_generations_beyond_the_number_go_with_their_files_unless_something_pins_them(world, tmp_path):
    digests = [world.push(world.data_only(tmp_path / str(minor), "alpha", f"0.{minor}.0")).digest for minor in range(5)]
    world.extensions = world.start(keep=2)
    world.install("alpha:0.0.0")
    world.pinned = {digests[0]}
    for minor in range(1, 5):
        world.install(f"alpha:0.{minor}.0")
    assert [g["number"] for g in world.extensions.history()] == [5, 4]
    there = {path.name for path in (world.home / "extensions/store").iterdir()}
    assert there == {digest[7:] for digest in (digests[0], digests[3], digests[4])}
    with pytest.raises(NotFound, match="no generation 1"):
        world.extensions.rollback(1)
    world.pinned = set()
    world.start(keep=2).load_installed()
    assert not (world.home / "extensions/store" / digests[0][7:]).exists()


def test_r172_an_upgrade_honours_the_ranges_of_dependents_and_explains_conflicts(kept, tmp_path):
    for version in ("0.1.0", "0.2.0", "1.0.0"):
        kept.push(kept.data_only(tmp_path / f"base{version}", "base", version))
    kept.push(kept.data_only(tmp_path / "top", "top", more=needs("base", ">=0.1,<1")))
    kept.install("base:0.1.0")
    kept.install("top")
    assert versions(kept)["base"] == "0.1.0", "what fits is kept"
    kept.extensions.upgrade(["base"])
    assert versions(kept)["base"] == "0.2.0", "top cannot live with 1.0.0"
    with pytest.raises(Conflict) as refused:
        kept.install("base:1.0.0")
    assert "top 0.1.0 (installed) needs base >=0.1,<1" in refused.value.message
    assert "you ask for base" in refused.value.message
    assert "fuseml extension upgrade top --dry-run" in refused.value.hint
    kept.push(kept.data_only(tmp_path / "top2", "top", "0.2.0", needs("base", ">=1")))
    done = kept.extensions.upgrade([])
    assert {c["name"]: c["to"] for c in done["plan"]["changes"]} == {"base": "1.0.0", "top": "0.2.0"}
    assert kept.extensions.upgrade([])["plan"]["changes"] == []
    assert len(kept.extensions.history()) == 4, "nothing to do makes no generation"


def test_what_an_extension_asks_for_of_another_that_nobody_can_give_names_both(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "b1", "base", "0.1.0"))
    kept.push(kept.data_only(tmp_path / "b2", "base", "0.2.0"))
    kept.push(kept.data_only(tmp_path / "x", "left", more=needs("base", "<0.2")))
    kept.push(kept.data_only(tmp_path / "y", "right", more=needs("base", ">=0.2")))
    with pytest.raises(Conflict) as refused:
        kept.extensions.install(["left", "right"])
    assert "left 0.1.0 needs base <0.2" in refused.value.message
    assert "right 0.1.0 needs base >=0.2" in refused.value.message
    assert "there is 0.2.0, 0.1.0" in refused.value.message
    assert kept.extensions.list() == []


def test_pre_releases_are_chosen_only_when_asked_for(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "1", "base", "1.0.0"))
    kept.push(kept.data_only(tmp_path / "2", "base", "1.1.0-rc.1"))
    kept.push(kept.data_only(tmp_path / "t", "top", more=needs("base", ">=0.1")))
    kept.install("top")
    assert versions(kept)["base"] == "1.0.0"
    kept.extensions.upgrade([])
    assert versions(kept)["base"] == "1.0.0"
    kept.extensions.upgrade(["base"], Options(Wish(prereleases=True)))
    assert versions(kept)["base"] == "1.1.0-rc.1"
    assert kept.extensions.upgrade([])["plan"]["changes"] == [], "nor is it taken away again"


def test_uninstalling_shows_and_prunes_dependencies_that_nothing_needs(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "a", "deepest"))
    kept.push(kept.data_only(tmp_path / "b", "base", more=needs("deepest", "*")))
    kept.push(kept.data_only(tmp_path / "c", "wanted"))
    kept.push(kept.data_only(tmp_path / "d", "top", more=needs("base", "*") + needs("wanted", "*")))
    kept.install("top")
    kept.install("wanted")
    with pytest.raises(Refused, match="the extension base depends on it"):
        kept.extensions.uninstall(["deepest"])
    planned = kept.extensions.uninstall(["top"], Options(dry_run=True))["plan"]
    assert [c["name"] for c in planned["changes"]] == ["top"]
    assert "base is there only as a dependency of top; remove it as well with --prune" in planned["warnings"]
    planned = kept.extensions.uninstall(["top"], Options(dry_run=True), prune=True)["plan"]
    assert [(c["name"], c["wanted_by"]) for c in planned["changes"]] == [
        ("top", []), ("base", ["top"]), ("deepest", ["base"])]
    kept.extensions.uninstall(["top"], prune=True)
    assert versions(kept) == {"wanted": "0.1.0"}, "what somebody asked for stays"
    kept.extensions.rollback()
    assert versions(kept) == {"base": "0.1.0", "deepest": "0.1.0", "top": "0.1.0", "wanted": "0.1.0"}


CONFIG = """
[config_schema]
type = "object"
required = ["place"]
[config_schema.properties.place]
type = "string"
[config_schema.properties.token]
type = "string"
writeOnly = true
"""


def test_settings_survive_upgrades_and_a_missing_required_one_refuses_before_the_switch(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "1", "alpha", "0.1.0", '[config_schema.properties.colour]\ntype = "string"\n'))
    kept.push(kept.data_only(tmp_path / "2", "alpha", "0.2.0", CONFIG))
    kept.install("alpha:0.1.0")
    kept.extensions.configure("alpha", {"colour": "red"})
    with pytest.raises(Invalid, match=r"alpha 0\.2\.0 cannot take over the settings: .*needs the setting 'place'") as refused:
        kept.extensions.upgrade(["alpha"])
    assert "--set alpha.KEY=VALUE" in refused.value.hint
    assert versions(kept) == {"alpha": "0.1.0"}
    done = kept.extensions.upgrade(["alpha"], Options(settings={"alpha": {"place": "here", "token": "s3cret"}}))
    assert "the setting 'colour' of alpha is kept and not used by 0.2.0: this version has no such setting" in done["plan"]["warnings"]
    assert "s3cret" not in str(done)
    shown = kept.extensions.get("alpha")
    assert shown["settings"] == {"place": "here", "token": "***"}
    assert list(shown["ignored"]) == ["colour"]
    assert shown["config_schema"]["required"] == ["place"]
    kept.extensions.rollback()
    assert kept.extensions.get("alpha")["settings"] == {"colour": "red"}
    kept.extensions.uninstall(["alpha"])
    with pytest.raises(Invalid, match="settings of 'beta' are given"):
        kept.extensions.install(["alpha:0.1.0"], Options(settings={"beta": {"x": 1}}))


def test_a_lock_installs_the_same_on_another_server_and_refuses_anything_else(kept, tmp_path, environments, short_folder):
    with kept.registry(tmp_path / "elsewhere") as other:
        for name, more in (("base", ""), ("top", needs("base", "*"))):
            push(build(kept.data_only(tmp_path / name, name, more=more)), read_reference(f"oci://{other}/team/{name}", ""),
                 RegistryClient(other, insecure=True))
        kept.install(f"oci://{other}/team/top", allow_unsigned=True)
        text = kept.extensions.lock()
        entries = {entry["name"]: entry for entry in tomllib.loads(text)["extension"]}
        assert entries["top"]["reference"] == f"oci://{other}/team/top:0.1.0@{entries['top']['digest']}"
        assert entries["top"]["config"].startswith("sha256:")
        assert (entries["top"]["requested"], entries["base"]["requested"]) == (True, False)
        assert entries["top"]["dependencies"] == ["base"]

        push(build(kept.data_only(tmp_path / "newer", "base", "0.9.0")), read_reference(f"oci://{other}/team/base", ""),
             RegistryClient(other, insecure=True))
        (tmp_path / "second").mkdir()
        second = type(kept)(tmp_path / "second", short_folder / "2", kept.place, environments)
        try:
            with pytest.raises(Refused, match="not trusted"):
                second.extensions.install_locked(text)
            done = second.extensions.install_locked(text, options=Options(allow_unsigned=True))
            assert {e["name"]: e["digest"] for e in done["extensions"]} == {n: e["digest"] for n, e in entries.items()}
            assert second.extensions.lock() == text
            signed = text.replace("signers = []", f'signers = ["sha256:{"1" * 64}"]')
            second.extensions.uninstall(["top", "base"])
            with pytest.raises(Refused, match="was signed by sha256:1111"):
                second.extensions.install_locked(signed, options=Options(allow_unsigned=True))
            wrong = text.replace(entries["base"]["config"], "sha256:" + "0" * 64)
            with pytest.raises(Refused, match="base 0.1.0 is locked with the config sha256:0000"):
                second.extensions.install_locked(wrong, options=Options(allow_unsigned=True))
            with pytest.raises(Invalid, match="the lock is incomplete: top needs base"):
                second.extensions.install_locked(text.replace('"base"', '"case"', 1))
            for no_toml in ("][", "a = " + "[" * 100_000):
                with pytest.raises(Invalid, match="not TOML"):
                    second.extensions.install_locked(no_toml)
            assert second.extensions.list() == []
        finally:
            second.host.shutdown()
            second.engine.dispose()


def test_offline_takes_what_is_here_and_says_what_is_not(kept, tmp_path):
    with kept.registry(tmp_path / "elsewhere") as other:
        client = RegistryClient(other, insecure=True)
        one = push(build(kept.data_only(tmp_path / "1", "alpha", "0.1.0")), read_reference(f"oci://{other}/team/alpha", ""), client)
        kept.install(str(one), allow_unsigned=True)
        push(build(kept.data_only(tmp_path / "2", "alpha", "0.2.0")), read_reference(f"oci://{other}/team/alpha", ""), client)
        kept.extensions.upgrade([], Options(allow_unsigned=True))
    offline = Options(Wish(offline=True))
    assert kept.extensions.upgrade([], offline)["plan"]["changes"] == []
    done = kept.extensions.install([f"oci://{other}/team/alpha:0.1.0"], offline)
    assert done["extensions"][0]["trust"]["overridden"], "the decision made when it was fetched is kept"
    assert versions(kept) == {"alpha": "0.1.0"}
    with pytest.raises(Unavailable, match=r"beta:1\.0\.0 is not on this machine, and --offline") as refused:
        kept.extensions.install([f"oci://{other}/team/beta:1.0.0", f"oci://{other}/team/gamma:1.0.0"], offline)
    assert refused.value.details["missing"] == [f"oci://{other}/team/beta:1.0.0", f"oci://{other}/team/gamma:1.0.0"]
    kept.push(kept.data_only(tmp_path / "o", "own"))
    kept.extensions.install(["own"], offline)
    assert "own" in versions(kept), "the server's own registry is not the network"


def test_r133_permissions_that_do_not_exist_are_refused_when_planned(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "one", "top", more='permissions = [{name = "disk", reason = "to keep"}]\n'))
    with pytest.raises(Invalid, match="declares permissions that do not exist: disk") as caught:
        kept.extensions.install(["top"], Options(dry_run=True))
    assert "filesystem:read:PATH" in caught.value.hint
    assert kept.extensions.generation().number == 0


def test_a_version_that_dies_after_the_switch_is_rolled_back_and_history_says_so(world, tmp_path, lock):
    world.extensions = world.start(keep=5, grace=20.0)
    world.push(world.greeter(tmp_path / "one", lock))
    world.install("greeter")
    first = world.extensions.generation()
    flag, dies = dying(tmp_path)
    world.push(world.greeter(tmp_path / "two", lock, version="0.2.0", describe=dies,
                             permission=f"filesystem:write:{flag.parent}"))
    assert first.state.value in ("new", "settled")
    world.extensions.stop()
    world.extensions = world.start(keep=5, grace=20.0)
    flag.unlink(missing_ok=True)
    assert world.install("greeter")["version"] in ("0.1.0", "0.2.0")
    deadline = time.monotonic() + 30
    while world.extensions.generation().number < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    world.extensions.stop()
    newest, failed, _ = world.extensions.history()
    assert (newest["number"], newest["cause"]) == (3, "automatic rollback of generation 2")
    assert failed["state"] == "failed"
    assert "worn out" in failed["note"] or "exit" in failed["note"]
    shown = world.extensions.get("greeter")
    assert (shown["version"], shown["components"][0]["state"]) == ("0.1.0", "ready")
    assert "generation 2 was taken back" in shown["trouble"][0]
    with pytest.raises(Conflict, match="no earlier generation"):
        world.extensions.rollback()


def test_work_that_a_killed_server_left_is_done_at_the_next_start(kept, tmp_path):
    def broken():
        raise RuntimeError("the builder is away")

    kept.push(kept.data_only(tmp_path / "a", "alpha"))
    kept.extensions._changer._followers = {"redetect": broken}
    kept.install("alpha")
    assert kept.generations.work() == {"redetect": "install alpha"}
    following = kept.start(keep=10)
    following.load_installed()
    following.resume()
    assert kept.followed == ["redetect"]
    assert kept.generations.work() == {}


def test_changes_wait_for_each_other_and_say_for_what(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "a", "alpha"))
    said, entered, leave = [], threading.Event(), threading.Event()

    def hold():
        with kept.lock.alone("upgrade of something slow", 1.0, said.append):
            entered.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(10)
    installing = threading.Thread(target=kept.install, args=("alpha",))
    installing.start()
    deadline = time.monotonic() + 10
    while not kept.progress and time.monotonic() < deadline:
        time.sleep(0.02)
    assert kept.progress == ["waiting for: upgrade of something slow"]
    leave.set()
    holder.join()
    installing.join()
    assert versions(kept) == {"alpha": "0.1.0"}
    assert kept.lock.running() == ""


def test_files_that_were_taken_away_are_brought_back_by_installing_again(kept, tmp_path):
    import shutil

    kept.push(kept.data_only(tmp_path / "a", "alpha"))
    kept.install("alpha")
    store = Path(kept.records.get("alpha").store)
    shutil.rmtree(store)
    done = kept.extensions.install(["alpha"])
    assert [c["action"] for c in done["plan"]["changes"]] == ["repair"]
    assert (store / "extension.json").is_file()
    kept.push(kept.data_only(tmp_path / "b", "alpha", "0.2.0"))
    kept.install("alpha")
    shutil.rmtree(store)
    with pytest.raises(Unavailable, match=r"the files of alpha 0\.1\.0, which generation 2 has, are gone"):
        kept.extensions.rollback()
    with pytest.raises(FusemlError):
        kept.extensions.rollback(1)


def test_a_plan_that_another_server_overtook_changes_nothing(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "a", "alpha"))
    kept.push(kept.data_only(tmp_path / "b", "beta"))
    overtaken = kept.extensions._planner.install(["alpha"], Options())
    kept.install("beta")
    with pytest.raises(Conflict, match="changed meanwhile"):
        kept.extensions._changer.carry_out(overtaken, lambda _text: None)
    assert versions(kept) == {"beta": "0.1.0"}
    assert [path.name for path in (kept.home / "extensions/store").iterdir()] == [kept.records.get("beta").digest[7:]]


def test_asking_for_a_dependency_makes_it_stay(kept, tmp_path):
    kept.push(kept.data_only(tmp_path / "base", "base"))
    kept.push(kept.data_only(tmp_path / "top", "top", more=needs("base", "*")))
    kept.install("top")
    assert not kept.extensions.get("base")["requested"]
    done = kept.extensions.install(["base"])
    assert (done["plan"]["changes"], done["generation"]) == ([], 2)
    kept.extensions.uninstall(["top"], prune=True)
    assert versions(kept) == {"base": "0.1.0"}


def test_decisions_are_kept_with_the_generation_and_what_is_rejected_by_now_is_not_brought_back(kept, tmp_path):
    from fuseml_core.adapters.extensions.trust import PolicyTrust

    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\n[[rule]]\nmatch = "**"\naction = "allow"\n')
    trust = PolicyTrust(policy, lambda: f"http://{kept.place}", tmp_path)
    kept.bundles = RegistryBundles(lambda: f"http://{kept.place}", kept.home / "extensions/content", kept.records, trust=trust)
    kept.extensions = kept.start(keep=10)
    with kept.registry(tmp_path / "elsewhere") as other:
        for version in ("0.1.0", "0.2.0"):
            push(build(kept.data_only(tmp_path / version, "alpha", version)), read_reference(f"oci://{other}/team/alpha", ""),
                 RegistryClient(other, insecure=True))
        kept.install(f"oci://{other}/team/alpha:0.1.0")
        kept.install(f"oci://{other}/team/alpha:0.2.0")
        assert 'rule 1 ("**"' in kept.extensions.get("alpha")["trust"]["rule"]
        policy.write_text(f'version = 1\n[[rule]]\nmatch = "{other}/**"\naction = "reject"\nreason = "sold"\n')
        with pytest.raises(Refused, match="sold"):
            kept.extensions.rollback()
        with pytest.raises(Refused, match="sold"):
            kept.extensions.install([f"oci://{other}/team/alpha:0.1.0"])
    assert versions(kept) == {"alpha": "0.2.0"}
    assert 'rule 1 ("**"' in kept.extensions.history()[0]["members"][0]["trust"]["rule"], "as it was decided then"


def test_what_a_key_signed_that_is_not_trusted_any_more_is_not_brought_back(kept, tmp_path):
    from fuseml_core.adapters.extensions.trust import PolicyTrust
    from fuseml_oci.signing import generate, sign

    old, new, policy = generate(), generate(), tmp_path / "policy.toml"
    rule = 'version = 1\n[[rule]]\nmatch = "**"\nkeys = {}\n'
    for name, key in (("old", old), ("new", new)):
        (tmp_path / f"{name}.pub").write_bytes(key.public.pem)
    policy.write_text(rule.format('["old.pub", "new.pub"]'))
    trust = PolicyTrust(policy, lambda: f"http://{kept.place}", tmp_path)
    kept.bundles = RegistryBundles(lambda: f"http://{kept.place}", kept.home / "extensions/content", kept.records, trust=trust)
    kept.extensions = kept.start(keep=10)
    with kept.registry(tmp_path / "elsewhere") as other:
        client = RegistryClient(other, insecure=True)
        for version, key in (("0.1.0", old), ("0.2.0", new)):
            place = push(build(kept.data_only(tmp_path / version, "alpha", version)),
                         read_reference(f"oci://{other}/team/alpha", ""), client)
            sign(client, place, key)
            kept.install(str(place))
        policy.write_text(rule.format('["new.pub"]'))
        with pytest.raises(Refused, match=f"alpha 0.1.0 is not trusted any more.*{old.public.fingerprint}") as refused:
            kept.extensions.rollback()
        assert "fuseml extension install oci://" in refused.value.hint
        with pytest.raises(Refused, match="not trusted"):
            kept.extensions.install([f"oci://{other}/team/alpha:0.1.0"], Options(Wish(offline=True)))
        assert versions(kept) == {"alpha": "0.2.0"}
        policy.write_text(rule.format('["old.pub"]'))
        kept.extensions.rollback()
    assert versions(kept) == {"alpha": "0.1.0"}


def test_a_generation_that_a_server_died_with_is_watched_again_after_the_next_start(kept, tmp_path, lock):
    kept.extensions = kept.start(keep=10, grace=60.0)
    kept.push(kept.greeter(tmp_path / "one", lock))
    kept.install("greeter")
    kept.extensions.stop()
    assert kept.extensions.generation().state.value == "new"
    following = kept.start(keep=10, grace=0.2)
    following.load_installed()
    following.resume()
    deadline = time.monotonic() + 20
    while following.generation().state.value == "new" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (following.generation().number, following.generation().state.value) == (1, "settled")


def test_a_first_installation_that_does_not_stay_up_is_taken_away_again(world, tmp_path, lock):
    world.extensions = world.start(keep=5, grace=20.0)
    flag, dies = dying(tmp_path)
    world.push(world.greeter(tmp_path / "one", lock, describe=dies,
                             permission=f"filesystem:write:{flag.parent}"))
    world.extensions.install(["greeter"])
    assert flag.exists()
    deadline = time.monotonic() + 30
    while world.extensions.generation().number < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    world.extensions.stop()
    assert world.extensions.list() == []
    assert [g["cause"] for g in world.extensions.history()] == ["automatic rollback of generation 1", "install greeter"]
