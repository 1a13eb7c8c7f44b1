from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

import pytest

from fuseml_oci import media
from fuseml_oci.content import ContentStore
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout, write_layout, write_layout_tar
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

DATA = b"layer" * 400_000


@pytest.fixture
def content(tmp_path):
    store = ContentStore(tmp_path / "content")
    config, layer = descriptor_of(b"{}", media.EMPTY), descriptor_of(DATA, "x/y")
    document = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b",
                               "config": config.to_json(), "layers": [layer.to_json()]})
    for data in (b"{}", DATA, document):
        store.add_bytes(data)
    manifest = descriptor_of(document, media.MANIFEST, {media.REF_NAME: "1.0.0"})
    return store, manifest, [config, layer, manifest]


@pytest.fixture(params=["directory", "tar"])
def layout(request, tmp_path, content):
    store, manifest, contained = content
    path = tmp_path / "layout"
    (write_layout if request.param == "directory" else write_layout_tar)(path, [manifest], store, contained)
    return path


def test_what_was_written_is_read(layout, content, tmp_path):
    _, manifest, (_, layer, _) = content
    read = ImageLayout(layout)
    assert read.find() == read.find("1.0.0") == manifest
    assert read.manifests() == [manifest]
    assert json.loads(read.read(manifest))["artifactType"] == "a/b"
    read.extract(layer, tmp_path / "layer")
    assert (tmp_path / "layer").read_bytes() == DATA
    with pytest.raises(NotFound):
        read.find("2.0.0")


def test_equal_content_gives_equal_files(layout, content, tmp_path):
    store, manifest, contained = content
    again = tmp_path / "again"
    if layout.is_dir():
        write_layout(again, [manifest], store, contained)
        files = [{p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in (layout, again)]
        assert files[0] == files[1]
    else:
        write_layout_tar(again, [manifest], store, list(reversed(contained)))
        assert layout.read_bytes() == again.read_bytes()


def test_skopeo_reads_it(layout, content):
    assert shutil.which("skopeo"), "install skopeo (apt-get install skopeo): this suite must not pass without it"
    transport = "oci" if layout.is_dir() else "oci-archive"
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"{transport}:{layout}:1.0.0"], check=True, timeout=60,
                         capture_output=True).stdout
    assert digest_bytes(raw) == content[1].digest


def test_changed_blobs_are_noticed(content, tmp_path):
    store, manifest, contained = content
    write_layout(tmp_path / "d", [manifest], store, contained)
    layer = contained[1]
    blob = tmp_path / "d" / "blobs" / "sha256" / layer.digest[7:]
    for damaged, why in ((DATA[:-1] + b"!", "another digest"), (DATA + b"x", "bytes instead")):
        blob.write_bytes(damaged)
        with pytest.raises(Permanent, match=why):
            ImageLayout(tmp_path / "d").extract(layer, tmp_path / "out")
        with pytest.raises(Permanent, match=why):
            ImageLayout(tmp_path / "d").read(layer)
    blob.unlink()
    with pytest.raises(NotFound):
        ImageLayout(tmp_path / "d").extract(layer, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"content", "d"}


def test_links_in_a_layout_are_not_followed(content, tmp_path):
    store, manifest, contained = content
    write_layout(tmp_path / "d", [manifest], store, contained)
    blob = tmp_path / "d" / "blobs" / "sha256" / contained[1].digest[7:]
    blob.unlink()
    blob.symlink_to(store.path(contained[1].digest))
    with pytest.raises(NotFound):
        ImageLayout(tmp_path / "d").read(contained[1])


def test_digests_in_an_index_cannot_leave_the_layout(tmp_path):
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "d" / "blobs").mkdir(parents=True)
    (tmp_path / "d" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {"mediaType": media.MANIFEST, "digest": "sha256:../../../secret", "size": 2}
    (tmp_path / "d" / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(InvalidInput, match="not a digest"):
        ImageLayout(tmp_path / "d").find()


@pytest.mark.parametrize("marker", [None, "", "{}", '{"imageLayoutVersion": "2.0.0"}', "x" * (5 << 20)],
                         ids=["missing", "empty", "bare", "version", "huge"])
def test_what_is_no_layout_is_refused(tmp_path, marker):
    if marker is not None:
        (tmp_path / "oci-layout").write_text(marker)
    with pytest.raises(InvalidInput):
        ImageLayout(tmp_path)
    (tmp_path / "file").write_text("not a tar")
    with pytest.raises(InvalidInput):
        ImageLayout(tmp_path / "file")
    with pytest.raises(InvalidInput):
        ImageLayout(tmp_path / "missing")


def test_tar_with_a_link_instead_of_a_blob(content, tmp_path):
    store, manifest, _ = content
    write_layout_tar(tmp_path / "t", [manifest], store, [])
    with tarfile.open(tmp_path / "t", "a:") as archive:
        link = tarfile.TarInfo(f"blobs/sha256/{manifest.digest[7:]}")
        link.type, link.linkname = tarfile.SYMTYPE, str(store.path(manifest.digest))
        archive.addfile(link)
    with pytest.raises(NotFound):
        ImageLayout(tmp_path / "t").read(manifest)


def test_writing_needs_an_empty_place_and_all_blobs(content, tmp_path):
    store, manifest, contained = content
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InvalidInput):
        write_layout(tmp_path / "full", [manifest], store, contained)
    missing = Descriptor("x/y", digest_bytes(b"missing"), 7)
    for write in (write_layout, write_layout_tar):
        with pytest.raises(NotFound):
            write(tmp_path / write.__name__, [manifest], store, [missing])
    assert not (tmp_path / "write_layout_tar").exists()


def test_content_store_keeps_only_what_is_right(tmp_path):
    store, blob = ContentStore(tmp_path), descriptor_of(b"right", "x/y")
    with pytest.raises(Permanent):
        store.add(blob, lambda _, path: path.write_bytes(b"wrong"))
    with pytest.raises(InvalidInput):
        store.add_bytes(b"wrong", blob.digest)
    assert not store.has(blob.digest)
    assert list(store.digests()) == []
    path = store.add(blob, lambda _, path: path.write_bytes(b"right"))
    assert store.add(blob, lambda *_: pytest.fail("fetched twice")) == path
    assert store.read(blob) == b"right"
    assert list(store.digests()) == [blob.digest]
    path.write_bytes(b"rigth")
    with pytest.raises(Permanent, match="damaged"):
        store.read(blob)
    assert store.remove(blob.digest) == 5
    assert store.remove(blob.digest) == 0
    with pytest.raises(NotFound):
        store.read(blob)
    with pytest.raises(InvalidInput):
        store.path("sha256:../../etc/passwd")
