"""ORAS CLI, crane and regctl log in to a registry with users and do everything they can with a bundle and an image."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fuseml_oci.bundles import build, push
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference
from fuseml_registry.access.accounts import Accounts

pytestmark = pytest.mark.full
ORAS = ("oras", "oras.land/oras/cmd/oras", "v1.3.6")
CRANE = ("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1")
REGCTL = ("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7")
CONFORMANCE = ("conformance", "github.com/opencontainers/distribution-spec/conformance",
               "v0.0.0-20260831232431-97274622c111")
BUNDLE = Path(__file__).resolve().parents[2] / "bundles/mlflow-end-to-end"
PASSWORD = "a-long-password"


@pytest.fixture(scope="module", params=["basic", "token"])
def guarded(request, tmp_path_factory, serve):
    folder = tmp_path_factory.mktemp("guarded")
    Accounts(folder / "users").add("alice", PASSWORD)
    access = [{"users": ["alice"], "repositories": ["team/**"], "actions": ["pull", "push", "delete"]}]
    with serve(folder / "registry", auth={"method": request.param, "users": folder / "users"}, access=access) as running:
        yield running


@pytest.fixture(scope="module")
def tour(server):
    """Our bundle in an open registry: (host/repository, tag, digest)."""
    with RegistryClient(server.host) as client:
        pushed = push(build(BUNDLE), Reference(server.host, "extensions/tour"), client)
    return f"{server.host}/extensions/tour", pushed.tag, pushed.digest


def test_r65_oras_copies_discovers_backs_up_and_restores_our_bundle(install, run, guarded, tour, tmp_path):
    oras, place = install(ORAS), f"{guarded.host}/team"
    source, tag, digest = tour
    run(oras, "login", "--plain-http", "-u", "alice", "--password-stdin", guarded.host, stdin=PASSWORD)
    run(oras, "cp", "-r", "--from-plain-http", "--to-plain-http", f"{source}:{tag}", f"{place}/tour:{tag}")
    (tmp_path / "bill.json").write_text("{}")
    run(oras, "attach", "--plain-http", f"{place}/tour:{tag}", "--artifact-type", "application/vnd.bill", "bill.json")
    run(oras, "cp", "-r", "--from-plain-http", "--to-plain-http", f"{place}/tour:{tag}", f"{place}/tour-copy:{tag}")

    def referrers(name):
        found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", f"{place}/{name}:{tag}"))
        return [(entry["artifactType"], entry["digest"]) for entry in found["referrers"]]

    assert [kind for kind, _ in referrers("tour")] == ["application/vnd.bill"]
    assert referrers("tour-copy") == referrers("tour")
    run(oras, "backup", "--plain-http", "--include-referrers", "--output", "backup.tar", f"{place}/tour:{tag}")
    run(oras, "restore", "--plain-http", "--input", "backup.tar", f"{place}/restored:{tag}")
    assert referrers("restored") == referrers("tour")
    for name in ("tour", "tour-copy", "restored"):
        assert run(oras, "resolve", "--plain-http", f"{place}/{name}:{tag}").strip() == digest
    assert set(run(oras, "repo", "ls", "--plain-http", guarded.host).split()) >= {"team/restored", "team/tour"}
    run(oras, "manifest", "delete", "--plain-http", "--force", f"{place}/restored:{tag}")
    run(oras, "logout", guarded.host)
    with pytest.raises(AssertionError, match="credential|unauthorized"):
        run(oras, "pull", "--plain-http", f"{place}/tour:{tag}")
    with pytest.raises(AssertionError, match="unauthorized|credential"):
        run(oras, "login", "--plain-http", "-u", "alice", "--password-stdin", guarded.host, stdin="wrong-password")


def test_crane_copies_digests_lists_and_deletes_our_bundle(install, run, guarded, tour):
    crane, place = install(CRANE), f"{guarded.host}/team/crane"
    source, tag, digest = tour
    run(crane, "auth", "login", guarded.host, "-u", "alice", "--password-stdin", stdin=PASSWORD)
    run(crane, "copy", f"{source}:{tag}", f"{place}:{tag}")
    assert run(crane, "digest", f"{place}:{tag}").strip() == digest
    run(crane, "tag", f"{place}:{tag}", "latest")
    assert run(crane, "ls", place).split() == [tag, "latest"]
    assert run(crane, "manifest", f"{place}:latest") == run(crane, "manifest", f"{source}:{tag}")
    assert "team/crane" in run(crane, "catalog", guarded.host).split()
    run(crane, "delete", f"{place}@{digest}")
    assert run(crane, "ls", place).split() == []


def test_regctl_copies_attaches_lists_and_deletes(install, run, guarded, tour, tmp_path):
    regctl, place = install(REGCTL), f"{guarded.host}/team/regctl"
    source, tag, digest = tour
    variables = {"REGCTL_CONFIG": str(tmp_path / "regctl.json")}
    for host in (guarded.host, source.partition("/")[0]):
        run(regctl, "registry", "set", "--tls", "disabled", "--skip-check", host, **variables)
    run(regctl, "registry", "login", guarded.host, "-u", "alice", "--pass-stdin", stdin=PASSWORD, **variables)
    run(regctl, "image", "copy", "--referrers", f"{source}:{tag}", f"{place}:{tag}", **variables)
    assert run(regctl, "image", "digest", f"{place}:{tag}", **variables).strip() == digest
    run(regctl, "artifact", "put", "--artifact-type", "application/vnd.note", "--subject", f"{place}:{tag}",
        stdin="a note", **variables)
    assert "application/vnd.note" in run(regctl, "artifact", "list", f"{place}:{tag}", **variables)
    assert run(regctl, "artifact", "get", "--subject", f"{place}:{tag}", **variables) == "a note"
    assert run(regctl, "tag", "ls", place, **variables).split() == [tag]
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(5 << 20))
    run(regctl, "artifact", "put", "--artifact-type", "a/b", "--file", "large.bin", f"{place}:large", **variables)
    (tmp_path / "got").mkdir()
    run(regctl, "artifact", "get", "--output", "got", f"{place}:large", **variables)
    (found,) = (path for path in (tmp_path / "got").rglob("*") if path.is_file())
    assert filecmp.cmp(large, found, shallow=False)
    run(regctl, "tag", "delete", f"{place}:large", **variables)
    assert run(regctl, "tag", "ls", place, **variables).split() == [tag]
    shutil.rmtree(tmp_path / "got")


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_the_conformance_suite_finds_no_failure_behind_a_login_either(install, run, serve, tmp_path, version):
    Accounts(tmp_path / "users").add("alice", PASSWORD)
    with serve(tmp_path / "r", auth={"method": "token", "users": tmp_path / "users"}) as running:
        run(install(CONFORMANCE), OCI_REGISTRY=running.host, OCI_TLS="disabled", OCI_VERSION=version,
            OCI_RESULTS_DIR=str(tmp_path), OCI_REPO1="conformance/one", OCI_REPO2="conformance/two",
            OCI_USERNAME="alice", OCI_PASSWORD=PASSWORD)
    found = ET.parse(tmp_path / "junit.xml").getroot()
    assert int(found.get("failures", "0")) == int(found.get("errors", "0")) == 0
    assert int(found.get("tests", "0")) > 800
