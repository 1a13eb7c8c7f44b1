"""The public conformance suite of the OCI distribution specification, and command-line clients written in Go."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.full
#: Command, package and version; the checksum database vouches for what arrives.
CONFORMANCE = ("conformance", "github.com/opencontainers/distribution-spec/conformance",
               "v0.0.0-20260831232431-97274622c111")
ORAS = ("oras", "oras.land/oras/cmd/oras", "v1.3.6")
CRANE = ("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1")
@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of the data process of a FuseML server of its own."""
    fuseml, home = Path(sys.executable).with_name("fuseml"), tmp_path_factory.mktemp("served")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FUSEML_")}
    environment |= {"FUSEML_HOME": str(home), "FUSEML_PORT": "0"}

    def run(*arguments: str) -> str:
        return subprocess.run([fuseml, *arguments], env=environment, check=True, capture_output=True, text=True,
                              timeout=120).stdout

    try:
        run("server", "start")
        yield urlsplit(json.loads(run("server", "status", "--output", "json"))["base_url"]).netloc
    finally:
        run("server", "stop")


@pytest.fixture(params=["alone", "data-process"])
def registry(request: pytest.FixtureRequest) -> str:
    """`host:port` of our registry: the application by itself, and as users meet it."""
    if request.param == "alone":
        return str(request.getfixturevalue("server").host)
    return str(request.getfixturevalue("served"))


@pytest.mark.parametrize("version", ["1.1", "dev"])
def test_the_conformance_suite_finds_no_failure(install, registry, run, tmp_path, version):
    suite = install(CONFORMANCE)
    run(suite, OCI_REGISTRY=registry, OCI_TLS="disabled", OCI_VERSION=version, OCI_RESULTS_DIR=str(tmp_path),
        OCI_REPO1=f"conformance/one-{version}", OCI_REPO2=f"conformance/two-{version}")
    found = ET.parse(tmp_path / "junit.xml").getroot()
    assert int(found.get("failures", "0")) == int(found.get("errors", "0")) == 0
    assert int(found.get("tests", "0")) > 800
    # Sparse manifests are ours to refuse: "MAY reject" of a manifest whose blobs are missing (Pushing Manifests).
    results = (tmp_path / "results.yaml").read_text()
    assert "Skip" not in results
    if version == "dev":
        assert [line.strip() for line in results.splitlines() if line.endswith(": Disabled")] == [
            "Sparse Manifests: Disabled"]


def test_oras_attaches_copies_and_discovers(install, registry, run, tmp_path):
    oras, ours = install(ORAS), f"{registry}/clients"
    (tmp_path / "content.bin").write_bytes(os.urandom(3 << 20))
    (tmp_path / "bill.json").write_text("{}")
    kind = "application/vnd.fuseml.example"
    run(oras, "push", "--plain-http", f"{ours}/one:v1,v2", "--artifact-type", kind, "content.bin")
    run(oras, "attach", "--plain-http", f"{ours}/one:v1", "--artifact-type", "application/vnd.bill", "bill.json")
    run(oras, "cp", "-r", "--from-plain-http", "--to-plain-http", f"{ours}/one:v1", f"{ours}/two:v1")
    run(oras, "cp", "-r", "--from-plain-http", "--to-oci-layout", f"{ours}/two:v1", "layout:v1")
    run(oras, "cp", "-r", "--from-oci-layout", "layout:v1", "--to-plain-http", f"{ours}/three:v1")
    found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", "--distribution-spec",
                           "v1.1-referrers-api", f"{ours}/three:v1"))
    assert [entry["artifactType"] for entry in found["referrers"]] == ["application/vnd.bill"]
    run(oras, "pull", "--plain-http", "--output", "pulled", f"{ours}/three:v1")
    assert filecmp.cmp(tmp_path / "content.bin", tmp_path / "pulled/content.bin", shallow=False)
    assert run(oras, "repo", "tags", "--plain-http", f"{ours}/one").split() == ["v1", "v2"]


def test_crane_appends_copies_lists_and_deletes(install, registry, run, tmp_path):
    crane, ours = install(CRANE), f"{registry}/images"
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    shutil.make_archive(str(tmp_path / "layer"), "tar", tmp_path, "file")
    run(crane, "append", "--new_layer", "layer.tar", "--new_tag", f"{ours}/one:a")
    run(crane, "append", "--base", f"{ours}/one:a", "--new_layer", "layer.tar", "--new_tag", f"{ours}/one:b")
    run(crane, "copy", "--all-tags", f"{ours}/one", f"{ours}/two")
    assert run(crane, "manifest", f"{ours}/two:b") == run(crane, "manifest", f"{ours}/one:b")
    run(crane, "validate", "--remote", f"{ours}/two:b")
    run(crane, "delete", f"{ours}/two:a")
    assert run(crane, "ls", f"{ours}/two").split() == ["b"]
    assert {"images/one", "images/two"} <= set(run(crane, "catalog", registry).split())
