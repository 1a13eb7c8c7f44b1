"""Debian's skopeo and podman, and Debian's docker-registry beside ours."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import oras.client
import pytest
import requests

from fuseml_oci.bundles import build, push
from fuseml_oci.client import RegistryClient
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_registry.access.accounts import Accounts

BUNDLE = Path(__file__).resolve().parents[2] / "bundles/mlflow-end-to-end"
PASSWORD = "a-long-password"
HELLO = b"hello from a registry\n"


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory):
    """`host:port` of a docker-registry."""
    folder = tmp_path_factory.mktemp("docker-registry")
    command = shutil.which("docker-registry")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("docker-registry is not installed: apt-get install it")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        host = f"127.0.0.1:{chosen.getsockname()[1]}"
    config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": {"addr": host},
              "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}}
    (folder / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen([command, "serve", str(folder / "config.json")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                if requests.get(f"http://{host}/v2/", timeout=5).ok:
                    break
            time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module", params=["basic", "token"])
def guarded(request, tmp_path_factory, serve):
    """A registry with users, where everybody may pull what is below `public`."""
    folder = tmp_path_factory.mktemp("guarded")
    Accounts(folder / "users").add("alice", PASSWORD)
    Accounts(folder / "users").add("reader", PASSWORD)
    access = [{"users": ["alice"], "actions": ["pull", "push", "delete"]}, {"users": ["reader"], "actions": ["pull"]},
              {"users": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]}]
    with serve(folder / "registry", auth={"method": request.param, "users": folder / "users"}, access=access) as running:
        yield running


def image(folder):
    """An image layout with one image that greets, and its digest; made by hand, no network needed."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.mode, member.size = 0o755, len(program())
        tar.addfile(member, io.BytesIO(program()))
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(data, kind):
        digest = digest_bytes(data)
        (folder / "blobs/sha256" / digest[7:]).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(data)}

    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
              "rootfs": {"type": "layers", "diff_ids": [digest_bytes(layer.getvalue())]}}
    parts = {"config": blob(json.dumps(config).encode(), "config.v1+json"),
             "layers": [blob(layer.getvalue(), "layer.v1.tar")]}
    manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", **parts})
                    .encode(), "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [
        {**manifest, "annotations": {"org.opencontainers.image.ref.name": "hello"}}]}))
    return manifest["digest"]


def program():
    """An ELF executable for x86-64 that writes a line and ends: no compiler, no libraries."""
    code = (b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35\x10\0\0\0\xba" + struct.pack("<I", len(HELLO))
            + b"\x0f\x05\x31\xff\xb8\x3c\0\0\0\x0f\x05")
    code = code.replace(b"\x35\x10\0\0\0", b"\x35" + struct.pack("<i", len(code) - 17))
    base, size = 0x400000, 120 + len(code) + len(HELLO)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 2, 62, 1, base + 120, 64, 0, 0, 64, 56,
                       1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code + HELLO


def test_r65_skopeo_copies_a_bundle_to_docker_registry_and_back_unchanged(server, docker_registry, run, http):
    with RegistryClient(server.host) as client:
        pushed = push(build(BUNDLE), Reference(server.host, "extensions/tour"), client)
    ours, theirs = f"docker://{server.host}/extensions", f"docker://{docker_registry}/extensions/tour:there"
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    run("skopeo", "copy", *plain, f"{ours}/tour:{pushed.tag}", theirs)
    run("skopeo", "copy", *plain, theirs, f"{ours}/tour-back:{pushed.tag}")
    kind = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    for url in (f"http://{docker_registry}/v2/extensions/tour/manifests/there",
                f"{server.url}/extensions/tour-back/manifests/{pushed.tag}"):
        answer = http.get(url, headers=kind)
        assert digest_bytes(answer.content) == answer.headers["Docker-Content-Digest"] == pushed.digest


def test_skopeo_logs_in_pushes_pulls_lists_and_deletes(guarded, run, tmp_path, http):
    digest = image(tmp_path / "layout")
    files, ours = ("--authfile", str(tmp_path / "auth.json")), f"docker://{guarded.host}/team/hello"
    run("skopeo", "login", "--tls-verify=false", *files, "-u", "alice", "--password-stdin", guarded.host, stdin=PASSWORD)
    run("skopeo", "copy", "--dest-tls-verify=false", *files, "--preserve-digests", "oci:layout:hello",
        f"{ours}:v1")
    assert json.loads(run("skopeo", "inspect", "--tls-verify=false", *files, f"{ours}:v1"))["Digest"] == digest
    run("skopeo", "copy", "--src-tls-verify=false", *files, f"{ours}:v1", "oci:pulled:hello")
    assert json.loads(run("skopeo", "list-tags", "--tls-verify=false", *files, ours))["Tags"] == ["v1"]
    public = f"docker://{guarded.host}/public/hello:v1"
    run("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *files, f"{ours}:v1", public)
    nobody = ("--authfile", str(tmp_path / "nobody.json"))
    run("skopeo", "copy", "--src-tls-verify=false", *nobody, public, "oci:anonymous:hello")
    with pytest.raises(AssertionError, match="unauthorized|credentials are needed|authentication required"):
        run("skopeo", "copy", "--src-tls-verify=false", *nobody, f"{ours}:v1", "oci:refused:hello")
    reader = ("--authfile", str(tmp_path / "reader.json"))
    run("skopeo", "login", "--tls-verify=false", *reader, "-u", "reader", "--password-stdin", guarded.host, stdin=PASSWORD)
    run("skopeo", "copy", "--src-tls-verify=false", *reader, f"{ours}:v1", "oci:read:hello")
    with pytest.raises(AssertionError, match="denied|unauthorized|does not grant|no permission"):
        run("skopeo", "copy", "--dest-tls-verify=false", *reader, "oci:layout:hello", f"{ours}:v2")
    run("skopeo", "delete", "--tls-verify=false", *files, f"{ours}:v1")
    assert http.get(f"{guarded.url}/team/hello/tags/list", auth=("alice", PASSWORD)).json()["tags"] == []


def test_wrong_passwords_are_refused_at_login(guarded, run, tmp_path):
    with pytest.raises(AssertionError, match="invalid username/password|unauthorized"):
        run("skopeo", "login", "--tls-verify=false", "--authfile", str(tmp_path / "a.json"), "-u", "alice",
            "--password-stdin", guarded.host, stdin="wrong")


def logged_in(host, folder, backend):
    client = oras.client.OrasClient(hostname=host, insecure=True, auth_backend=backend)
    client.login(username="alice", password=PASSWORD, hostname=host, config_path=str(folder / "config.json"))
    return client


def test_plain_oras_py_logs_in_pushes_and_pulls(guarded, tmp_path):
    """Its token back-end never asks for more than its first token grants (oras-py 0.2.43): it pulls, Basic pushes."""
    (tmp_path / "content.bin").write_bytes(os.urandom(100_000))
    place = f"{guarded.host}/team/oras:v1"
    logged_in(guarded.host, tmp_path, "basic").push(place, files=[f"{tmp_path}/content.bin:application/octet-stream"],
                                                    disable_path_validation=True)
    is_token = "Bearer" in requests.get(f"{guarded.url}/").headers["WWW-Authenticate"]
    for backend in ("basic", "token") if is_token else ("basic",):
        found = logged_in(guarded.host, tmp_path, backend).pull(place, outdir=str(tmp_path / backend))
        assert Path(found[0]).read_bytes() == (tmp_path / "content.bin").read_bytes()


@pytest.fixture
def podman(run, tmp_path):
    """Run podman with storage of its own; it wants the path to be short."""
    if os.geteuid() and not os.environ.get("CI"):
        pytest.skip("only root can prepare the container as this test does")
    folder = tempfile.mkdtemp(prefix="fz")
    base = ("--root", f"{folder}/s", "--runroot", f"{folder}/r", "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none")

    (tmp_path / "config.json").write_text("{}")

    def command(*arguments, **more):
        # crun refuses the mixed control groups that a machine may have; the container needs none.
        hidden = "mount -t tmpfs none /sys/fs/cgroup && exec podman \"$@\""
        if arguments[0] == "run":
            return run("unshare", "--mount", "sh", "-c", hidden, "podman", *base, *arguments, **more)
        return run("podman", *base, *arguments, **more)

    yield command
    run("podman", *base, "rmi", "--all", "--force")
    shutil.rmtree(folder)


def test_r65_podman_builds_pushes_pulls_and_runs_an_image(guarded, podman, tmp_path):
    """From an image without anything to a container that speaks."""
    assert platform.machine() == "x86_64", "the program of this test is made for x86-64"
    (tmp_path / "hello").write_bytes(program())
    (tmp_path / "hello").chmod(0o755)
    (tmp_path / "Containerfile").write_text('FROM scratch\nCOPY hello /hello\nCMD ["/hello"]\n')
    name, auth = f"{guarded.host}/team/greeting:1.0.0", ("--authfile", str(tmp_path / "auth.json"))
    podman("login", "--tls-verify=false", *auth, "-u", "alice", "--password-stdin", guarded.host, stdin=PASSWORD)
    podman("build", "--file", str(tmp_path / "Containerfile"), "--tag", name, str(tmp_path))
    podman("push", "--tls-verify=false", *auth, name)
    podman("rmi", "--all", "--force")
    podman("pull", "--tls-verify=false", *auth, name)
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")
    said = podman("run", "--rm", "--pull", "never", "--network", "none", "--cgroups", "disabled", *limits, name)
    assert said.encode() == HELLO
