from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import canonical_json, descriptor_of
from fuseml_oci.digests import digest_bytes
from fuseml_oci.layout import ImageLayout, write_layout
from fuseml_sdk.errors import InvalidInput, NotFound

DATA = b"layer" * 400_000
CONFIG, LAYER = descriptor_of(b"{}", media.EMPTY), descriptor_of(DATA, "x/y")
DOCUMENT = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "a/b",
                           "config": CONFIG.to_json(), "layers": [LAYER.to_json()]})
MANIFEST = descriptor_of(DOCUMENT, media.MANIFEST, {media.REF_NAME: "1.0.0"})
BLOBS = {CONFIG.digest: b"{}", LAYER.digest: DATA, MANIFEST.digest: DOCUMENT}


@pytest.fixture(params=["layout", "layout.tar"])
def layout(request, tmp_path):
    write_layout(tmp_path / request.param, [MANIFEST], BLOBS)
    return tmp_path / request.param


def blob(layout, descriptor):
    return layout / "blobs" / "sha256" / descriptor.digest[7:]


def test_what_was_written_is_read(layout):
    read = ImageLayout(layout)
    assert read.manifests() == [MANIFEST]
    assert json.loads(read.read(MANIFEST))["artifactType"] == "a/b"
    assert read.read(LAYER) == DATA
    with pytest.raises(NotFound):
        read.read(descriptor_of(b"missing", "x/y"))


def test_equal_content_gives_equal_files(layout, tmp_path):
    again = tmp_path / f"again{layout.suffix}"
    write_layout(again, [MANIFEST], dict(reversed(BLOBS.items())))
    if layout.is_dir():
        files = [{p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in (layout, again)]
        assert files[0] == files[1]
    else:
        assert layout.read_bytes() == again.read_bytes()


def test_a_layout_is_replaced_by_another(layout):
    write_layout(layout, [CONFIG], {CONFIG.digest: b"{}"})
    assert ImageLayout(layout).manifests() == [CONFIG]
    with pytest.raises(NotFound):
        ImageLayout(layout).read(LAYER)
    assert [path.name for path in layout.parent.iterdir()] == [layout.name]


def test_skopeo_reads_it(layout):
    if shutil.which("skopeo") is None:  # continuous integration has it; a person may do without
        (pytest.fail if os.environ.get("CI") else pytest.skip)("skopeo is not installed: apt-get install skopeo")
    transport = "oci" if layout.is_dir() else "oci-archive"
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"{transport}:{layout}:1.0.0"], check=True, timeout=60,
                         capture_output=True).stdout
    assert digest_bytes(raw) == MANIFEST.digest


def test_changed_blobs_are_noticed(tmp_path):
    write_layout(tmp_path / "d", [MANIFEST], BLOBS)
    for damaged, why in ((DATA[:-1] + b"!", "has the digest"), (DATA + b"x", "bytes instead")):
        blob(tmp_path / "d", LAYER).write_bytes(damaged)
        with pytest.raises(InvalidInput, match=why):
            ImageLayout(tmp_path / "d").read(LAYER)


def test_links_in_a_layout_are_not_followed(tmp_path):
    write_layout(tmp_path / "d", [MANIFEST], BLOBS)
    (tmp_path / "elsewhere").write_bytes(DATA)
    blob(tmp_path / "d", LAYER).unlink()
    blob(tmp_path / "d", LAYER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        ImageLayout(tmp_path / "d").read(LAYER)


def test_digests_in_an_index_cannot_leave_the_layout(tmp_path):
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "d" / "blobs").mkdir(parents=True)
    (tmp_path / "d" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    entry = {"mediaType": media.MANIFEST, "digest": "sha256:../../../secret", "size": 2}
    (tmp_path / "d" / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(InvalidInput, match="not a digest"):
        ImageLayout(tmp_path / "d").manifests()


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


def test_tar_with_a_link_instead_of_a_blob(tmp_path):
    write_layout(tmp_path / "t.tar", [MANIFEST], {})
    with tarfile.open(tmp_path / "t.tar", "a:") as archive:
        link = tarfile.TarInfo(f"blobs/sha256/{MANIFEST.digest[7:]}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(NotFound):
        ImageLayout(tmp_path / "t.tar").read(MANIFEST)


def test_folders_with_other_things_are_left_alone(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(InvalidInput, match="not empty"):
        write_layout(tmp_path, [MANIFEST], BLOBS)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
