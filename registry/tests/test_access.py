"""Who may do what: Basic, docker's token flow, permissions, guessing (distribution-spec, code-13, code-14)."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from fuseml_oci.bundles import build, push
from fuseml_oci.client import RegistryClient
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_registry.access.accounts import Accounts
from fuseml_registry.access.passwords import check_password, hash_password
from fuseml_registry.access.permissions import Permissions
from fuseml_registry.access.throttle import FREE, LONGEST, Throttle
from fuseml_registry.access.tokens import InvalidToken, Tokens, signing_key
from fuseml_registry.configuration import Access
from fuseml_sdk.errors import InvalidInput, NotFound

ALICE, BOB, ROBOT = ("alice", "alice-secret-1"), ("bob", "bob-secret-22"), ("robot", "robot-secret-3")
RULES = [
    {"users": ["alice"], "repositories": ["**"], "actions": ["pull", "push", "delete"]},
    {"users": ["bob"], "repositories": ["team-b/**"], "actions": ["pull", "push"]},
    {"users": ["*"], "repositories": ["shared/*"], "actions": ["pull"]},
    {"users": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
]
BUNDLE = Path(__file__).resolve().parents[2] / "bundles/mlflow-end-to-end"
DATA = b"some content"
DIGEST = digest_bytes(DATA)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    path = tmp_path_factory.mktemp("users") / "users"
    for name, password in (ALICE, BOB, ROBOT):
        Accounts(path).add(name, password)
    return path


@pytest.fixture(scope="module", params=["basic", "token"])
def either(request, tmp_path_factory, users, serve):
    auth = {"method": request.param, "users": users}
    with serve(tmp_path_factory.mktemp("either"), auth=auth, access=RULES) as running:
        fill(running)
        yield running


@pytest.fixture(scope="module")
def token(tmp_path_factory, users, serve):
    with serve(tmp_path_factory.mktemp("token"), auth={"method": "token", "users": users}, access=RULES) as running:
        fill(running)
        yield running


def fill(server):
    for name in ("public/one", "team-b/one", "shared/one", "secret/one"):
        answer = requests.post(f"{server.url}/{name}/blobs/uploads/", params={"digest": DIGEST}, data=DATA, auth=ALICE)
        assert answer.status_code == 201
        blob = {"mediaType": "x/y", "digest": DIGEST, "size": len(DATA)}
        kind = "application/vnd.oci.image.manifest.v1+json"
        data = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": blob, "layers": []})
        assert requests.put(f"{server.url}/{name}/manifests/v1", data=data, auth=ALICE,
                            headers={"Content-Type": kind}).status_code == 201


def challenge(answer):
    assert answer.status_code == 401, answer.text
    scheme, _, rest = answer.headers["WWW-Authenticate"].partition(" ")
    return scheme, dict(CHALLENGE.findall(rest))


def get_token(server, scope, auth=None, **query):
    answer = requests.get(f"http://{server.host}/token", params={"service": "fuseml-registry", "scope": scope, **query},
                          auth=auth)
    assert answer.status_code == 200, answer.text
    return answer.json()


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


# Both methods

@pytest.mark.parametrize(("who", "method", "path", "allowed"), [
    (ALICE, "GET", "secret/one/manifests/v1", True), (ALICE, "POST", "anything/new/blobs/uploads/", True),
    (BOB, "GET", "team-b/one/manifests/v1", True), (BOB, "GET", "team-b/one/tags/list", True),
    (BOB, "GET", f"team-b/one/referrers/{DIGEST}", True), (BOB, "POST", "team-b/new/blobs/uploads/", True),
    (BOB, "POST", "team-b/blobs/uploads/", True), (BOB, "POST", "team-bee/blobs/uploads/", False),
    (BOB, "DELETE", "team-b/one/manifests/v1", False), (BOB, "DELETE", f"team-b/one/blobs/{DIGEST}", False),
    (BOB, "GET", "secret/one/manifests/v1", False), (BOB, "HEAD", f"secret/one/blobs/{DIGEST}", False),
    (BOB, "GET", "secret/one/tags/list", False), (BOB, "GET", f"secret/one/referrers/{DIGEST}", False),
    (BOB, "PUT", "shared/one/manifests/v1", False), (BOB, "PATCH", "shared/one/blobs/uploads/" + "0" * 32, False),
    (ROBOT, "GET", "shared/one/manifests/v1", True), (ROBOT, "GET", "public/one/manifests/v1", True),
    (ROBOT, "GET", "team-b/one/manifests/v1", False),
    (None, "GET", "public/one/manifests/v1", True), (None, "GET", f"public/one/blobs/{DIGEST}", True),
    (None, "POST", "public/one/blobs/uploads/", False), (None, "GET", "shared/one/manifests/v1", False),
])
def test_users_do_what_the_rules_allow_and_nothing_else(either, http, who, method, path, allowed):
    answer = http.request(method, f"{either.url}/{path}", auth=who)
    if allowed:
        assert answer.status_code in (200, 202)
    elif who is None:
        challenge(answer)
    else:
        assert answer.status_code == 403
        assert method == "HEAD" or answer.json()["errors"][0]["code"] == "DENIED"


@pytest.mark.parametrize("header", [
    "Basic " + base64.b64encode(b"alice:wrong-password").decode(), "Basic " + base64.b64encode(b"alice:").decode(),
    "Basic " + base64.b64encode(b"nobody:alice-secret-1").decode(), "Basic !!!", "Basic", "Bearer x.y.z", "Bearer ",
    "Digest x", "Basic " + base64.b64encode(b"alice").decode(), "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    "Basic " + base64.b64encode(b"alice:" + b"x" * 5000).decode(),
])
def test_wrong_credentials_are_401_even_where_anybody_may_read(users, serve, tmp_path, http, header):
    """code-13: a client that sends a wrong password shall hear it."""
    with serve(tmp_path, auth={"method": "token", "users": users, "anonymous_pull": True}) as running:
        answer = http.get(f"{running.url}/public/one/tags/list", headers={"Authorization": header})
    challenge(answer)
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


def test_the_version_check_asks_for_credentials_so_that_clients_know_the_scheme(either, http):
    """end-1: clients look at its challenge to learn how to log in, also where anybody may pull."""
    challenge(http.get(f"{either.url}/"))
    assert http.get(f"{either.url}/", auth=ROBOT).status_code == 200
    challenge(http.get(f"{either.url}/", auth=("robot", "wrong")))


def test_empty_basic_credentials_are_anonymous(either, http):
    """containers/image answers a Basic challenge so when it has no credentials."""
    assert http.get(f"{either.url}/public/one/manifests/v1", auth=("", "")).status_code == 200
    challenge(http.get(f"{either.url}/secret/one/manifests/v1", auth=("", "")))


@pytest.mark.parametrize(("who", "seen"), [
    (ALICE, ["public/one", "secret/one", "shared/one", "team-b/one"]), (BOB, ["public/one", "shared/one", "team-b/one"]),
    (ROBOT, ["public/one", "shared/one"]), (None, ["public/one"]),
])
def test_the_catalog_shows_what_one_may_pull(either, http, who, seen):
    listed = http.get(f"{either.url}/_catalog", auth=who).json()["repositories"]
    assert [name for name in listed if name.endswith("/one")] == seen


@pytest.mark.parametrize("source", ["secret/one", None], ids=["named", "anonymous"])
def test_a_mount_gives_no_blob_that_one_may_not_pull(tmp_path, users, serve, http, source):
    """end-11: naming a digest is no permission; the registry falls back to an upload."""
    with serve(tmp_path, auth={"method": "basic", "users": users}, access=RULES) as running:
        http.post(f"{running.url}/secret/one/blobs/uploads/", params={"digest": DIGEST}, data=DATA, auth=ALICE)
        query = {"mount": DIGEST} | ({"from": source} if source else {})
        answer = http.post(f"{running.url}/team-b/new/blobs/uploads/", params=query, auth=BOB)
        assert answer.status_code == 202
        assert http.head(f"{running.url}/team-b/new/blobs/{DIGEST}", auth=BOB).status_code == 404
        assert http.post(f"{running.url}/team-b/new/blobs/uploads/", params=query, auth=ALICE).status_code == 201


def test_the_pages_show_visitors_what_they_may_pull(users, serve, tmp_path, http):
    with serve(tmp_path) as running, RegistryClient(running.host) as client:
        for namespace in ("public", "team-b"):
            push(build(BUNDLE), Reference(running.host, f"{namespace}/tour-of-{namespace}"), client)
        assert "tour-of-team-b" in http.get(f"http://{running.host}/marketplace/").text
    with serve(tmp_path, auth={"method": "token", "users": users}, access=RULES) as running:
        url = f"http://{running.host}/marketplace/"
        assert http.get(url).status_code == 200
        assert "tour-of-public" in http.get(url).text
        assert "tour-of-team-b" not in http.get(url).text
        assert "tour-of-team-b" in http.get(url, auth=BOB).text
        assert challenge(http.get(url, auth=("bob", "wrong-password")))[0] == "Basic"
    with serve(tmp_path, auth={"method": "token", "users": users}) as running:
        assert challenge(http.get(f"http://{running.host}/marketplace/"))[0] == "Basic"
        assert http.get(f"http://{running.host}/marketplace/", auth=ROBOT).status_code == 200


# Basic

def test_r65_basic_challenge(tmp_path, users, serve, http):
    with serve(tmp_path, auth={"method": "basic", "users": users}) as running:
        scheme, fields = challenge(http.get(f"{running.url}/a/b/tags/list"))
        assert (scheme, fields["realm"]) == ("Basic", "fuseml-registry")
        assert http.get(f"http://{running.host}/token").status_code == 404
        assert http.get(f"{running.url}/a/b/tags/list", auth=ROBOT).status_code == 404, "without rules, users may all"


def test_users_and_passwords_change_while_the_server_runs(tmp_path, serve, http):
    accounts = Accounts(tmp_path / "users")
    accounts.add("carol", "first-password")
    with serve(tmp_path / "r", auth={"method": "basic", "users": accounts.path}) as running:
        def status(password, name="carol"):
            return http.get(f"{running.url}/", auth=(name, password)).status_code

        assert status("first-password") == 200
        accounts.add("carol", "second-password")
        assert [status("first-password"), status("second-password")] == [401, 200]
        accounts.add("dave", "daves-password")
        assert status("daves-password", "dave") == 200
        accounts.remove("carol")
        assert status("second-password") == 401
        with pytest.raises(NotFound):
            accounts.remove("carol")
    assert accounts.names() == ["dave"]
    assert accounts.path.stat().st_mode & 0o777 == 0o600


# Guessing

def test_guesses_are_slowed_down_and_the_right_password_from_elsewhere_still_works(tmp_path, users, serve, http):
    with serve(tmp_path, auth={"method": "basic", "users": users}) as running:
        assert http.get(f"{running.url}/", auth=ALICE).status_code == 200
        answers = [http.get(f"{running.url}/", auth=("bob", f"guess-{n}")) for n in range(FREE + 2)]
        assert [a.status_code for a in answers] == [401] * FREE + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert answers[-1].json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert http.get(f"{running.url}/", auth=BOB).status_code == 429, "also the right one waits"
        assert http.get(f"{running.url}/", auth=ALICE).status_code == 200, "who was in goes on"


def test_the_wait_doubles_up_to_a_bound_and_ends():
    now = [1000.0]
    throttle = Throttle(lambda: now[0])
    waits = []
    for _ in range(FREE + 12):
        throttle.failed("a")
        waits.append(throttle.wait("a"))
    assert waits[:FREE - 1] == [0.0] * (FREE - 1)
    assert waits[FREE - 1:FREE + 3] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == LONGEST
    assert throttle.wait("b") == 0
    now[0] += LONGEST
    assert throttle.wait("a") == 0
    throttle.succeeded("a")
    throttle.failed("a")
    assert throttle.wait("a") == 0


def test_the_throttle_remembers_no_more_than_it_may():
    throttle = Throttle()
    for number in range(20_000):
        throttle.failed(f"address {number}")
    assert len(throttle._failures) <= 10_000


def test_an_address_that_tries_many_names_waits_whatever_passwords_it_knows(users, serve, tmp_path, http, monkeypatch):
    monkeypatch.setattr("fuseml_registry.access.login.FREE_OF_ADDRESS", 10)
    with serve(tmp_path, auth={"method": "basic", "users": users}) as running:
        statuses = []
        for number in range(12):
            statuses.append(http.get(f"{running.url}/", auth=(f"name{number}", "password")).status_code)
            assert http.get(f"{running.url}/", auth=ALICE).status_code == 200
    assert statuses[:10] == [401] * 10
    assert 429 in statuses[10:]


def test_a_damaged_file_of_users_lets_nobody_in_and_is_no_secret_to_the_log(serve, tmp_path, http, caplog):
    Accounts(tmp_path / "users").add("alice", "long-enough")
    with serve(tmp_path / "r", auth={"method": "basic", "users": tmp_path / "users"}) as running:
        (tmp_path / "users").write_text("damaged\n")
        answer = http.get(f"{running.url}/", auth=("alice", "long-enough"))
    assert answer.status_code == 500
    assert answer.json()["errors"][0]["code"] == "UNKNOWN"
    assert "line 1" in caplog.text
    assert "line 1" not in answer.text


# Tokens

def test_the_challenge_leads_to_a_token_that_works(token, http):
    """RFC 6750, 3 and docker's token specification: realm, service and scope as they are to be sent back."""
    url = f"{token.url}/team-b/one/manifests/v1"
    scheme, fields = challenge(http.get(url))
    assert scheme == "Bearer"
    assert fields == {"realm": f"http://{token.host}/token", "service": "fuseml-registry",
                      "scope": "repository:team-b/one:pull"}
    answer = http.get(fields["realm"], params={"service": fields["service"], "scope": fields["scope"]}, auth=BOB)
    found = answer.json()
    assert found["token"] == found["access_token"]
    assert found["expires_in"] == 300
    assert found["issued_at"].endswith("Z")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "refresh_token" not in found
    assert http.get(url, headers=bearer(found["token"])).status_code == 200


@pytest.mark.parametrize(("method", "path", "scope"), [
    ("POST", "a/b/blobs/uploads/", "repository:a/b:pull,push"), ("PUT", "a/b/manifests/x", "repository:a/b:pull,push"),
    ("DELETE", "a/b/manifests/x", "repository:a/b:delete"), ("GET", "_catalog", "registry:catalog:*"),
    ("GET", f"a/b/blobs/{DIGEST}", "repository:a/b:pull"),
])
def test_a_token_that_grants_too_little_is_told_what_is_missing(token, http, method, path, scope):
    """RFC 6750, 3.1: insufficient_scope; with the status 401 that docker's clients expect."""
    text = get_token(token, "repository:shared/one:pull", ROBOT)["token"]
    _, fields = challenge(http.request(method, f"{token.url}/{path}", headers=bearer(text)))
    assert fields["error"] == "insufficient_scope"
    assert fields["scope"] == scope


@pytest.mark.parametrize(("who", "asked", "granted"), [
    (BOB, "repository:team-b/x:pull,push,delete", "repository:team-b/x:pull,push"),
    (BOB, "repository:secret/x:pull,push", ""), (BOB, "repository:team-b/x:*", "repository:team-b/x:pull,push"),
    (ALICE, "repository:x:pull repository:y:push", "repository:x:pull repository:y:push"),
    (ALICE, "registry:catalog:*", "registry:catalog:*"), (None, "registry:catalog:*", "registry:catalog:*"),
    (None, "repository:public/x:pull,push", "repository:public/x:pull"), (ALICE, "", ""),
    (ALICE, "repository:../x:pull", ""), (ALICE, "repository(plugin):x:pull", "repository:x:pull"),
])
def test_tokens_grant_what_is_asked_for_and_allowed(token, who, asked, granted):
    assert get_token(token, asked, who)["scope"] == granted


def test_scopes_may_come_in_several_parameters(token):
    assert get_token(token, ["repository:a:pull", "repository:b:pull"], ALICE)["scope"] == (
        "repository:a:pull repository:b:pull")


@pytest.mark.parametrize("query", [
    "scope=nonsense", "scope=repository:x", "service=another", "scope=" + "repository:x:pull+" * 101,
])
def test_nonsense_at_the_token_endpoint_is_400(token, http, query):
    assert http.get(f"http://{token.host}/token?{query}", auth=ALICE).status_code == 400


def test_wrong_passwords_get_no_token(token, http):
    scheme, _ = challenge(http.get(f"http://{token.host}/token", auth=("alice", "wrong-password")))
    assert scheme == "Basic"


def test_an_anonymous_token_reads_what_everybody_may(token, http):
    text = get_token(token, "repository:public/one:pull")["token"]
    assert http.get(f"{token.url}/public/one/manifests/v1", headers=bearer(text)).status_code == 200
    assert http.get(f"{token.url}/_catalog", headers=bearer(get_token(token, "registry:catalog:*")["token"])).json() == {
        "repositories": ["public/one"]}


def test_oauth_with_a_password_and_with_a_refresh_token(token, http):
    """docker's OAuth2 form: `docker login` keeps the refresh token instead of the password."""
    url, form = f"http://{token.host}/token", {"service": "fuseml-registry", "client_id": "docker"}
    first = http.post(url, data={**form, "grant_type": "password", "username": BOB[0], "password": BOB[1],
                                 "access_type": "offline", "scope": "repository:team-b/one:pull"}).json()
    assert first["scope"] == "repository:team-b/one:pull"
    again = http.post(url, data={**form, "grant_type": "refresh_token", "refresh_token": first["refresh_token"],
                                 "scope": "repository:team-b/one:pull,push"})
    assert again.status_code == 200
    assert again.json()["refresh_token"] == first["refresh_token"]
    assert http.get(f"{token.url}/team-b/one/tags/list", headers=bearer(again.json()["access_token"])).ok
    refused = http.get(f"{token.url}/team-b/one/tags/list", headers=bearer(first["refresh_token"]))
    assert challenge(refused)[1]["error"] == "invalid_token"
    for wrong in (first["access_token"], "x", first["refresh_token"][:-2] + "AA"):
        assert http.post(url, data={**form, "grant_type": "refresh_token", "refresh_token": wrong}).status_code == 401
    assert http.post(url, data={**form, "grant_type": "nothing"}).status_code == 400
    assert http.post(url, data=b"x" * 100_000).status_code == 413


def test_a_new_password_ends_refresh_tokens(tmp_path, serve, http):
    accounts = Accounts(tmp_path / "users")
    accounts.add("carol", "first-password")
    with serve(tmp_path / "r", auth={"method": "token", "users": accounts.path}) as running:
        found = get_token(running, "repository:a:pull", ("carol", "first-password"), offline_token="true")
        form = {"grant_type": "refresh_token", "refresh_token": found["refresh_token"], "service": "fuseml-registry"}
        assert http.post(f"http://{running.host}/token", data=form).status_code == 200
        accounts.add("carol", "second-password")
        assert http.post(f"http://{running.host}/token", data=form).status_code == 401
        accounts.remove("carol")
        assert http.post(f"http://{running.host}/token", data=form).status_code == 401


def test_expired_tokens_are_renewed_by_whoever_reads_the_challenge(tmp_path, users, serve, http):
    with serve(tmp_path, auth={"method": "token", "users": users, "token_lifetime": "0"}) as running:
        text = get_token(running, "repository:a:pull", ALICE)["token"]
        _, fields = challenge(http.get(f"{running.url}/a/tags/list", headers=bearer(text)))
        assert fields["error"] == "invalid_token"


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def test_a_token_says_what_was_signed_and_expires(key):
    now = [5000.0]
    tokens = Tokens(key, "here", lambda: now[0])
    text = tokens.issue("alice", {"a/b": frozenset({"pull"}), "c": frozenset()}, 60, catalog=True)
    found = tokens.verify(text)
    assert (found.subject, found.grants, found.catalog) == ("alice", {"a/b": {"pull"}}, True)
    now[0] += 59
    tokens.verify(text)
    now[0] += 1
    with pytest.raises(InvalidToken, match="expired"):
        tokens.verify(text)
    now[0] -= 100
    with pytest.raises(InvalidToken, match="expired"):
        tokens.verify(text)


def changed(text, part, **fields):
    parts = text.split(".")
    value = json.loads(base64.urlsafe_b64decode(parts[part] + "=="))
    parts[part] = base64.urlsafe_b64encode(json.dumps(value | fields).encode()).decode().rstrip("=")
    return ".".join(parts)


def test_forged_tokens_are_refused(key):
    tokens = Tokens(key, "here")
    text = tokens.issue("alice", {}, 60)
    other = Tokens(ec.generate_private_key(ec.SECP256R1()), "here").issue("alice", {}, 60)
    elsewhere = Tokens(key, "there").issue("alice", {}, 60)
    head, body, signature = text.split(".")
    forged = [
        other, elsewhere, changed(text, 1, sub="root"), changed(text, 0, alg="none"), changed(text, 0, alg="HS256"),
        f"{head}.{body}.", f"{head}.{body}", f"{head}..{signature}", f"{head}.{body}.{signature[:-4]}", "", "..",
        f"{head}.{body}.{signature}.x", f"{head}.{body}.{'A' * 86}", "x" * 100_000, f"{head}.{body}!.{signature}",
        tokens.issue_refresh("alice", "f", 60),
    ]
    for wrong in forged:
        with pytest.raises(InvalidToken):
            tokens.verify(wrong)


def test_the_signing_key_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "deep" / "token.key"
    first = signing_key(path).private_numbers()
    assert signing_key(path).private_numbers() == first
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match="can be read by others"):
        signing_key(path)
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(InvalidInput, match="PEM"):
        signing_key(path)


# Files and rules

def test_passwords_are_salted_and_hashed():
    first, second = hash_password("a password"), hash_password("a password")
    assert first != second
    assert "a password" not in first
    assert check_password("a password", first)
    assert check_password("a password", second)
    for wrong in ("A password", "", "a password "):
        assert not check_password(wrong, first)
    for broken in ("", "a password", first[:-1], first.replace("ln=14", "ln=31"), "$2y$05$" + "x" * 53):
        assert not check_password("a password", broken)


@pytest.mark.parametrize(("name", "password"), [
    ("a:b", "long-enough"), ("", "long-enough"), ("anonymous", "long-enough"), ("-x", "long-enough"),
    ("x\n", "long-enough"), ("ok", "short"), ("ok", "x" * 2000),
])
def test_names_and_passwords_that_cannot_be_used_are_refused(tmp_path, name, password):
    with pytest.raises(InvalidInput):
        Accounts(tmp_path / "users").add(name, password)
    assert not (tmp_path / "users").exists()


def test_a_damaged_file_of_users_says_where(tmp_path):
    (tmp_path / "users").write_text("# users\n\nalice:$2y$05$abcdef\n")
    with pytest.raises(InvalidInput, match="line 3"):
        Accounts(tmp_path / "users").names()


@pytest.mark.parametrize(("glob", "matches", "others"), [
    ("**", ["a", "a/b/c"], []), ("a/**", ["a", "a/b", "a/b/c"], ["ab", "b/a"]), ("a/*", ["a/b"], ["a", "a/b/c"]),
    ("a?", ["ab"], ["a", "a/"]), ("a.b", ["a.b"], ["axb"]), ("*/x", ["a/x"], ["x", "a/b/x"]), ("*", ["a"], ["a/b"]),
])
def test_globs(glob, matches, others):
    permissions = Permissions([Access(users=("u",), repositories=(glob,), actions=("pull",))])
    assert all(permissions.actions("u", name) == {"pull"} for name in matches)
    assert not any(permissions.actions("u", name) for name in others)
