"""What is used of oras-py, pinned part by part, and the plain oras client on the same registries.

The client replaces the transport of `oras.provider.Registry`. When one of these tests fails after a change of the
version in pyproject.toml, read what changed before anything else: the library has changed such parts in patch releases.
"""

from __future__ import annotations

import inspect
import os
import re
from importlib.metadata import requires, version

import oras.client
import oras.provider
import pytest
import requests

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.connections import Adapter
from fuseml_oci.descriptor import Descriptor, canonical_json, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes
from fuseml_oci.transport import SafeRegistry
from fuseml_sdk.errors import Unsupported

#: Methods of oras-py that verify nothing, retry for minutes or write anywhere; none may be reachable by mistake.
CLOSED = ("pull", "push", "login", "logout", "set_header", "get_blob", "get_tags", "blob_exists", "delete_tags",
          "download_blob", "upload_blob", "put_upload", "chunked_upload", "upload_manifest", "_do_paginated_request",
          "_download_blob", "_upload_blob", "_put_upload", "_chunked_upload", "_upload_manifest")
#: Methods that are replaced, or harmless without the others.
KNOWN = {"do_request", "get_manifest", "delete_tag", "version", "get_container", "_validate_path", "_parse_manifest_ref",
         "_get_location", "_check_200_response", "_parse_response_errors"}


def test_the_version_is_pinned_exactly():
    pinned, = (line for line in requires("fuseml-oci") or [] if re.match(r"oras\b", line))
    assert pinned == f"oras=={version('oras')}"


def test_the_constructor_takes_what_it_is_given():
    parameters = inspect.signature(oras.provider.Registry.__init__).parameters
    assert [*parameters][:4] == ["self", "hostname", "insecure", "tls_verify"]
    made = oras.provider.Registry("example.org", insecure=False, tls_verify="/a/file")
    assert made.hostname == "example.org"
    assert made.prefix == "https"
    assert made._tls_verify == "/a/file"
    assert isinstance(made.session, requests.Session)


def test_everything_that_sends_goes_through_do_request():
    parameters = inspect.signature(oras.provider.Registry.do_request).parameters
    assert [*parameters] == ["self", "url", "method", "data", "headers", "json", "stream"]
    assert [*inspect.signature(SafeRegistry.do_request).parameters][:7] == [*parameters]
    sending = [name for name, value in vars(oras.provider.Registry).items()
               if inspect.isfunction(value) and "self.session.request(" in inspect.getsource(value)]
    assert sending == ["do_request"]


@pytest.mark.parametrize("name", CLOSED)
def test_what_verifies_nothing_exists_and_is_closed(name):
    assert callable(getattr(oras.provider.Registry, name)), "gone or renamed: is its successor closed?"
    with RegistryClient("127.0.0.1:9") as client, pytest.raises(Unsupported, match="is closed"):
        getattr(client, name)("127.0.0.1:9/a/b:c")


def test_nothing_new_of_oras_sends_without_being_looked_at():
    """A method that a new version adds must be looked at: is it safe, or does it belong to the closed ones?"""
    methods = {name for name, value in vars(oras.provider.Registry).items()
               if inspect.isfunction(value) and not name.startswith("__")}
    assert methods == {*CLOSED} | KNOWN
    for name in ("do_request", "get_manifest", "delete_tag"):
        assert getattr(RegistryClient, name) is not getattr(oras.provider.Registry, name)


def test_requests_and_urllib3_have_the_parts_that_are_replaced():
    import http.client

    import urllib3.connection

    assert inspect.isfunction(http.client.HTTPResponse._read_and_discard_trailer)
    assert inspect.isfunction(urllib3.connection.HTTPConnection.getresponse)
    adapter = Adapter()
    pool = adapter.poolmanager.connection_from_url("https://example.org")
    connection = pool.ConnectionCls("example.org", blocksize=1 << 20)
    assert connection.blocksize == 1 << 20
    assert connection.response_class.__name__ == "_Response"
    adapter.close()


@pytest.fixture(params=["ours", "docker-registry"])
def host(request):
    return request.getfixturevalue("registry").host if request.param == "ours" else \
        request.getfixturevalue("docker_registry")


def test_r65_plain_oras_pulls_what_we_pushed(host, tmp_path):
    data = os.urandom(300_000)
    layer = Descriptor("application/x-bytes", digest_bytes(data), len(data), {media.TITLE: "content.bin"})
    manifest = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "application/x-test",
                               "config": {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2},
                               "layers": [layer.to_json()]})
    with RegistryClient(host) as client:
        client.push_blob("plain/ours", b"{}", media.EMPTY_DIGEST, media.EMPTY)
        client.push_blob("plain/ours", data, layer.digest, layer.media_type)
        client.push_manifest("plain/ours", "1.0.0", manifest, media.MANIFEST)
    pulled, = oras.client.OrasClient(insecure=True).pull(f"{host}/plain/ours:1.0.0", outdir=str(tmp_path))
    assert (tmp_path / "content.bin").read_bytes() == data
    assert pulled == str(tmp_path / "content.bin")


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_r65_we_pull_what_plain_oras_pushed(host, tmp_path, chunked):
    source, name = tmp_path / "source.bin", f"plain/theirs{int(chunked)}"
    source.write_bytes(os.urandom(300_000))
    oras.client.OrasClient(insecure=True).push(
        f"{host}/{name}:v1", files=[f"{source}:application/x-bytes"], disable_path_validation=True, do_chunked=chunked,
        chunk_size=100_000)
    with RegistryClient(host) as client:
        manifest, media_type, digest = client.get_manifest(name, "v1")
        assert (media_type, digest) == (media.MANIFEST, digest_bytes(manifest))
        layer = read_descriptor(read_object(manifest, "manifest")["layers"][0], "layer")
        client.pull_blob(name, layer, tmp_path / "pulled.bin")
    assert (tmp_path / "pulled.bin").read_bytes() == source.read_bytes()
