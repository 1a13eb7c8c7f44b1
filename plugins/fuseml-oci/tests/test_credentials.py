"""Where credentials come from, for whom they are, and where logging in puts them."""

from __future__ import annotations

import base64
import json
import stat
import sys

import pytest

from fuseml_oci.client import RegistryClient
from fuseml_oci.credential_programs import ask_program
from fuseml_oci.credentials import Credentials, find_credentials
from fuseml_oci.login import log_in, log_out
from fuseml_oci.retries import RetryPolicy
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady, Retryable


def encoded(name, password="pw"):
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def config(tmp_path, auths, **more):
    (tmp_path / "config.json").write_text(auths if isinstance(auths, str) else json.dumps({"auths": auths, **more}))
    return {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path / "home")}


def test_found_by_exact_host_and_port(tmp_path):
    env = config(tmp_path, {"ghcr.io": encoded("me", "pass:word"), "h:5000": {"username": "u", "password": "p"},
                            "https://index.docker.io/v1/": encoded("hub"), "empty.io": {}})
    assert find_credentials("ghcr.io", env) == Credentials("me", "pass:word")
    assert find_credentials("h:5000", env) == Credentials("u", "p")
    assert find_credentials("docker.io", env) == find_credentials("registry-1.docker.io", env) == Credentials("hub", "pw")
    for other in ("h", "h:5001", "evil-ghcr.io", "ghcr.io:444", "empty.io", "ghcr.io.evil.example"):
        assert find_credentials(other, env) is None


def test_no_file_is_no_credentials(tmp_path):
    assert find_credentials("ghcr.io", {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}) is None
    assert find_credentials("ghcr.io", {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("text", [
    "{", "[]", '{"auths": 5}', '{"auths": {"ghcr.io": {"auth": "%%%secret"}}}', '{"auths": {"ghcr.io": 5}}', "[" * 99999,
    '{"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}}', '{"credHelpers": [1]}', '{"credsStore": 5}', "\ud800"])
def test_damaged_file_is_named_and_not_quoted(tmp_path, text):
    env = config(tmp_path, "{}")
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(InvalidInput, match=r"config\.json") as error:
        find_credentials("ghcr.io", env)
    assert "secret" not in str(error.value)


def test_the_most_specific_repository_wins(tmp_path):
    env = config(tmp_path, {"quay.io": encoded("host"), "quay.io/team": encoded("team"),
                            "quay.io/team/app": encoded("app"), "docker.io/me": encoded("mine")})
    for repository, name in (("", "host"), ("other/app", "host"), ("team/x/y", "team"), ("team/app", "app"),
                             ("team/app/deep", "app"), ("team/application", "team"), ("teams", "host")):
        assert find_credentials("quay.io", env, repository).username == name
    assert find_credentials("registry-1.docker.io", env, "me/x").username == "mine"
    assert find_credentials("registry-1.docker.io", env, "you/x") is None


def test_files_are_read_in_order(tmp_path):
    home, runtime = tmp_path / "home", tmp_path / "run"
    places = [home / ".config/containers/auth.json", runtime / "containers/auth.json", home / ".docker/config.json",
              tmp_path / "own.json"]
    env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"auths": {"r.io": encoded(f"user{number}")}}))
        if place.name == "own.json":
            env["REGISTRY_AUTH_FILE"] = str(place)
        assert find_credentials("r.io", env).username == f"user{number}"
    env |= {"FUSEML_REGISTRY_USERNAME": "ci", "FUSEML_REGISTRY_PASSWORD": "x", "FUSEML_REGISTRY_HOST": "R.io"}
    assert find_credentials("r.io", env) == Credentials("ci", "x")
    assert find_credentials("r.io:5000", env) is None
    places[2].write_text(json.dumps({"auths": {"s.io": encoded("docker")}}))
    assert find_credentials("s.io", env).username == "docker"


@pytest.mark.parametrize("missing", ["HOST", "USERNAME", "PASSWORD"])
def test_a_password_for_no_registry_in_particular_is_refused(missing):
    env = {f"FUSEML_REGISTRY_{name}": "secret" for name in ("HOST", "USERNAME", "PASSWORD") if name != missing}
    with pytest.raises(InvalidInput, match="FUSEML_REGISTRY_HOST") as error:
        find_credentials("r.io", env)
    assert "secret" not in str(error.value)


@pytest.fixture
def program(tmp_path):
    """A credential program that keeps what it is given in a file, as the real ones do in a key ring."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker-credential-test").write_text(f"""#!{sys.executable}
import json, pathlib, sys, time
store, action, text = pathlib.Path({str(tmp_path / "kept.json")!r}), sys.argv[1], sys.stdin.read()
kept = json.loads(store.read_text()) if store.exists() else {{}}
if text == "slow":
    time.sleep(60)
if text == "strange":
    print("[]"); sys.exit()
if action == "store":
    kept[json.loads(text)["ServerURL"]] = json.loads(text)
elif action == "erase":
    kept.pop(text, None)
elif text in kept:
    print(json.dumps(kept[text]))
else:
    print("credentials not found in native keychain" if text != "broken" else "hunter2"); sys.exit(1)
store.write_text(json.dumps(kept))
""")
    (folder / "docker-credential-test").chmod(0o755)
    return {"PATH": str(folder)}


def test_programs_are_asked(tmp_path, program):
    env = config(tmp_path, {"file.io": encoded("file"), "own.io": encoded("file")}, credsStore="test",
                 credHelpers={"own.io": "test", "none.io": "missing"}) | program
    for server, user in (("all.io", "all"), ("own.io", "own"), ("https://index.docker.io/v1/", "hub")):
        ask_program("test", "store", json.dumps({"ServerURL": server, "Username": user, "Secret": "s"}), program)
    assert find_credentials("all.io", env) == Credentials("all", "s")
    assert find_credentials("own.io", env) == Credentials("own", "s")
    assert find_credentials("file.io", env).username == "file"
    assert find_credentials("docker.io", env).username == "hub"
    assert find_credentials("unknown.io", env) is None
    with pytest.raises(NotFound, match="docker-credential-missing"):
        find_credentials("none.io", env)
    assert find_credentials("all.io", {**env, "PATH": "/nowhere"}) is None
    ask_program("test", "store", json.dumps({"ServerURL": "t.io", "Username": "<token>", "Secret": "refresh"}), program)
    assert find_credentials("t.io", env) == Credentials("", identity_token="refresh")


def test_programs_that_fail_are_named_and_not_quoted(program):
    with pytest.raises(NotReady, match="0.5 s"):
        ask_program("test", "get", "slow", program, timeout=0.5)
    with pytest.raises(InvalidInput, match="JSON"):
        ask_program("test", "get", "strange", program)
    with pytest.raises(NotReady, match="exit code 1") as error:
        ask_program("test", "get", "broken", program)
    assert "hunter2" not in str(error.value)
    for name in ("../test", "", "a/b", "-x", "a b"):
        with pytest.raises(InvalidInput, match="name"):
            ask_program(name, "get", "x", program)


def test_identity_tokens_are_read_from_files(tmp_path):
    env = config(tmp_path, {"azure.io": {**encoded("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "r"}})
    assert find_credentials("azure.io", env) == Credentials("", identity_token="r")


def test_passwords_do_not_show():
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))


def guarded(evil, answer, name, password):
    right = Credentials(name, password).basic
    evil.behave = lambda h: answer(h, 200, b"{}") if h.headers.get("Authorization") == right else answer(
        h, 401, WWW_Authenticate='Basic realm="x"')


def connect(registry, credentials):
    return RegistryClient(registry, credentials=credentials, retries=RetryPolicy(attempts=1))


def test_login_is_verified_and_kept_where_docker_keeps_it(evil, answer, tmp_path):
    env = {"DOCKER_CONFIG": str(tmp_path / "new")}
    guarded(evil, answer, "me", "päss:word")
    with pytest.raises(InvalidInput, match="refuses"):
        log_in(evil.host, Credentials("me", "wrong"), connect, env)
    assert not (tmp_path / "new").exists()
    done = log_in(evil.host, Credentials("me", "päss:word"), connect, env)
    file = tmp_path / "new/config.json"
    assert (done.place, done.checked) == (str(file), True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert find_credentials(evil.host, env) == Credentials("me", "päss:word")
    file.write_text(json.dumps({"auths": {**json.loads(file.read_text())["auths"], f"https://{evil.host}": {}, "o.io": {}},
                                "HttpHeaders": {"a": "b"}}))
    log_in(evil.host, Credentials("me", "päss:word"), connect, env)
    kept = json.loads(file.read_text())
    assert kept["HttpHeaders"] == {"a": "b"}
    assert kept["auths"].keys() == {evil.host, "o.io"}
    assert log_out(evil.host, env)
    assert not log_out(evil.host, env)
    assert json.loads(file.read_text())["auths"].keys() == {"o.io"}
    assert not log_out("r.io", {"DOCKER_CONFIG": str(tmp_path / "none")})


def test_login_goes_to_the_program_that_docker_uses(evil, answer, tmp_path, program):
    guarded(evil, answer, "me", "pw")
    env = config(tmp_path, {}, credsStore="test") | program
    assert log_in(evil.host, Credentials("me", "pw"), connect, env).place == "docker-credential-test"
    assert json.loads((tmp_path / "config.json").read_text())["auths"] == {}
    assert find_credentials(evil.host, env) == Credentials("me", "pw")
    assert log_out(evil.host, env)
    assert not log_out(evil.host, env)
    assert find_credentials(evil.host, env) is None


def test_login_where_nobody_asks_and_where_nobody_is(evil, answer, tmp_path):
    env = {"DOCKER_CONFIG": str(tmp_path)}
    evil.behave = lambda h: answer(h, 200, b"{}")
    assert not log_in(evil.host, Credentials("me", "pw"), connect, env).checked
    evil.behave = lambda h: answer(h, 404)
    with pytest.raises(InvalidInput, match="not an OCI registry"):
        log_in(evil.host, Credentials("me", "pw"), connect, env)
    with pytest.raises(Retryable, match="cannot be reached"):
        log_in("127.0.0.1:9", Credentials("me", "pw"), connect, env)
    with pytest.raises(InvalidInput, match="not a registry"):
        log_in("https://r.io", Credentials("me", "pw"), connect, env)


def test_a_link_to_the_configuration_stays_one(evil, answer, tmp_path):
    guarded(evil, answer, "me", "pw")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/config.json").write_text("{}")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").symlink_to(tmp_path / "real/config.json")
    log_in(evil.host, Credentials("me", "pw"), connect, {"DOCKER_CONFIG": str(tmp_path / "docker")})
    assert (tmp_path / "docker/config.json").is_symlink()
    assert evil.host in json.loads((tmp_path / "real/config.json").read_text())["auths"]
