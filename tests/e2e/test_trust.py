"""Signed bundles and the trust policy on a real server; the page for authors and admins says what the tests do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/how-to/sign-and-trust-bundles.md").read_text(encoding="utf-8")
REFUSED = 5


def _with_name(folder: Path, name: str) -> Path:
    """The bundle `numbers` under another name, so that tests that share a server do not meet."""
    shutil.copytree(ROOT / "tests/e2e/bundles/numbers", folder / name)
    manifest = folder / name / "extension.toml"
    manifest.write_text(manifest.read_text().replace('name = "numbers"', f'name = "{name}"'))
    return folder / name


@pytest.fixture
def policy(numbers):
    """Write the policy of the server; afterwards the default is back."""
    path = numbers.home / "fz/policy.toml"
    before = path.read_text()
    yield path.write_text
    path.write_text(before)


def test_r169_a_new_server_trusts_its_own_registry_and_nothing_else(numbers):
    shown = numbers.json("policy", "show")
    assert [rule["match"] for rule in shown["rules"]] == ["embedded/**", "**"]
    (key,) = shown["rules"][0]["keys"]
    home = numbers.home / "fz"
    assert (home / "keys/registry.key").stat().st_mode & 0o777 == 0o600
    assert (home / "policy.toml").stat().st_mode & 0o077 == 0
    assert [k["fingerprint"] for k in numbers.json("key", "list") if k["name"] == "registry"] == [key["fingerprint"]]
    (installed,) = [e for e in numbers.json("extension", "list") if e["name"] == "numbers"]
    assert installed["trust"]["signers"] == [key["fingerprint"]]
    checked = numbers.json("policy", "check", "numbers")
    assert (checked["allowed"], checked["signers"]) == (True, [key["fingerprint"]])


def test_r169_what_another_tool_pushed_is_unsigned_until_somebody_signs_it(numbers, tmp_path):
    source = _with_name(tmp_path, "strange-numbers")
    numbers("bundle", "build", str(source), "--output", str(tmp_path / "strange.oci.tar"))
    host = numbers.base_url.removeprefix("http://")
    target = f"docker://{host}/extensions/strange-numbers:0.1.0"
    skopeo = shutil.which("skopeo")
    if skopeo is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")
    subprocess.run([skopeo, "copy", "--dest-tls-verify=false", f"oci-archive:{tmp_path / 'strange.oci.tar'}", target],
                   check=True, capture_output=True, timeout=60)
    refused = numbers("extension", "install", "strange-numbers", code=REFUSED)
    assert "is not signed by a key that rule 1" in refused.err
    command = re.search(r"Sign it: fuseml (bundle sign \S+)", refused.err)[1]
    assert "--allow-unsigned" in refused.err
    assert numbers("policy", "check", "strange-numbers", code=REFUSED).out.count("refused, because it is not signed")
    try:
        numbers("extension", "install", "strange-numbers", "--allow-unsigned")
        numbers("extension", "uninstall", "strange-numbers")
        numbers(*shlex.split(command))
        numbers(*shlex.split(command))
        numbers("extension", "install", "strange-numbers")
        (trust,) = [e["trust"] for e in numbers.json("extension", "list") if e["name"] == "strange-numbers"]
        assert (trust["allowed"], trust["overridden"], len(trust["signers"])) == (True, False, 1)
    finally:
        numbers("extension", "uninstall", "strange-numbers", code=None)


def test_r169_rejected_and_wrongly_signed_bundles_are_refused_whatever_is_said(numbers, policy, tmp_path):
    numbers("bundle", "push", str(_with_name(tmp_path, "bad-numbers")))
    policy('version = 1\n[[rule]]\nmatch = "embedded/extensions/bad-*"\naction = "reject"\nreason = "It counts wrongly."\n')
    for arguments in ((), ("--allow-unsigned",)):
        refused = numbers("extension", "install", "bad-numbers", *arguments, code=REFUSED)
        assert "It counts wrongly." in refused.err
    numbers.environment["COSIGN_PASSWORD"] = "secret"
    numbers("key", "generate", "nobody", "--directory", str(tmp_path))
    del numbers.environment["COSIGN_PASSWORD"]
    policy(f'version = 1\n[[rule]]\nmatch = "**"\nkeys = ["{tmp_path}/nobody.pub"]\n')
    refused = numbers("extension", "install", "bad-numbers", "--allow-unsigned", code=REFUSED)
    assert "signed, but not by a key" in refused.err
    policy('version = 1\n[[rule]]\nmatch = "**"\nkey = "keys/registry.pub"\n')
    refused = numbers("extension", "install", "bad-numbers", "--allow-unsigned", code=REFUSED)
    assert "policy.toml, line 4" in refused.err
    assert "unknown key 'key'" in refused.err
    assert "bad-numbers" not in [e["name"] for e in numbers.json("extension", "list")]


@pytest.fixture
def foreign(tmp_path):
    """`host:port` of a docker-registry: somebody else's, without the referrers API."""
    command = shutil.which("docker-registry")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("docker-registry is not installed: apt-get install it")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        host = f"127.0.0.1:{chosen.getsockname()[1]}"
    config = {"version": 0.1, "log": {"level": "error"}, "http": {"addr": host},
              "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen([command, "serve", str(tmp_path / "config.json")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(host.split(":")[1])), 1):
                break
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait(10)


def test_r169_a_bundle_of_a_foreign_registry_is_installed_when_its_author_is_trusted(numbers, policy, foreign, tmp_path):
    """Signatures lie under the fallback tag there."""
    place = f"oci://{foreign}/team/foreign-numbers"
    numbers.environment["FUSEML_KEY_PASSWORD"] = "correct horse"
    try:
        pushed = numbers.json("bundle", "push", str(_with_name(tmp_path, "foreign-numbers")), place)
        numbers("key", "generate", "author", "--directory", str(tmp_path))
        refused = numbers("extension", "install", place, code=REFUSED)
        assert "fuseml marketplace add" in refused.err
        policy(f'version = 1\n[[rule]]\nmatch = "{foreign}/team/*"\nkeys = ["{tmp_path}/author.pub"]\n')
        assert "is not signed" in numbers("extension", "install", place, code=REFUSED).err
        numbers("bundle", "sign", pushed["reference"], "--key", str(tmp_path / "author.key"))
        (trust,) = [numbers.json("policy", "check", place)]
        assert (trust["allowed"], trust["rule"]) == (True, f'rule 1 ("{foreign}/team/*", line 2)')
        numbers("extension", "install", place)
    finally:
        del numbers.environment["FUSEML_KEY_PASSWORD"]
        numbers("extension", "uninstall", "foreign-numbers", code=None)


def test_the_server_signs_only_what_lies_in_its_registry(numbers):
    for body, code in (({"reference": "extensions/numbers:0.1.0"}, 400), ({"reference": "../x@sha256:00"}, 400),
                       ({"reference": "extensions/numbers@sha256:" + "0" * 64}, 404),
                       ({"reference": "oci://example.org/a/b@sha256:" + "0" * 64}, 400)):
        assert _post(numbers, body)[0] == code
    refused = numbers("bundle", "sign", "oci://127.0.0.1:9/a/b@sha256:" + "0" * 64, code=2)
    assert "not the server's own registry" in refused.err
    assert "fuseml key generate" in refused.err


def test_r169_the_pages_commands_work(numbers, tmp_path, policy):
    """Every command of the page in its order, the policy of the page included."""
    _with_name(tmp_path, "measuring")
    (tmp_path / "bom.json").write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}))
    (tmp_path / "report.html").write_text("<p>All is well.</p>")
    numbers.environment["FUSEML_KEY_PASSWORD"] = "correct horse"
    keys = numbers.home / "fz/keys"
    try:
        for command in re.findall(r"^\$ fuseml (.*)$", PAGE, re.MULTILINE):
            if command.startswith("policy check"):
                policy(re.search(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1])
            arguments = [str(keys / "team.pub") if word == "team.pub" else word for word in shlex.split(command)]
            numbers(*arguments, cwd=tmp_path)
        (trust,) = [e["trust"] for e in numbers.json("extension", "list") if e["name"] == "measuring"]
        assert len(trust["signers"]) == 2
        assert trust["attestations"] == ["https://cyclonedx.org/bom"]
        found = numbers.json("bundle", "verify", "measuring", "--key", "team")
        assert found["verified"]
        assert {entry["name"] for entry in found["signatures"]} == {"team"}
    finally:
        del numbers.environment["FUSEML_KEY_PASSWORD"]
        numbers("extension", "uninstall", "measuring", code=None)
        for path in keys.glob("*team*"):
            path.unlink()


def _post(fuseml, body) -> tuple[int, bytes]:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{fuseml.base_url}/api/v1/registry/signatures", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
