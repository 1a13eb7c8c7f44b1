"""Unpacking bundles that somebody else made, and reading manifests that lie."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from fuseml_oci import media
from fuseml_oci.bundles.build import build
from fuseml_oci.bundles.descriptor import MAX_LAYER, ExtensionDescriptor
from fuseml_oci.bundles.icons import check_icon
from fuseml_oci.bundles.manifest import read_config, read_manifest
from fuseml_oci.bundles.transfer import PulledBundle
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import FileEntry


@pytest.fixture
def built(tmp_path):
    source = tmp_path / "source"
    (source / "runnables").mkdir(parents=True)
    (source / "files/bin").mkdir(parents=True)
    (source / "extension.toml").write_text('name = "greeter"\nversion = "0.1.0"\nsummary = "Says hello."\n')
    (source / "runnables/hello.yaml").write_text('name: hello\ncommand: ["{python}", "-V"]\n')
    (source / "files/bin/run").write_text("#!/bin/sh\n")
    (source / "files/bin/run").chmod(0o750)
    (source / "README.md").write_text("# Greeter\n")
    return build(source)


def pulled(descriptor: ExtensionDescriptor, blobs: dict[str, bytes], folder: Path) -> PulledBundle:
    paths = {}
    for digest, data in blobs.items():
        paths[digest] = folder / digest[7:]
        paths[digest].write_bytes(data)
    config = descriptor.encode()
    return PulledBundle(digest_bytes(b"m"), config, descriptor, paths)


def test_r170_an_unpacked_bundle_has_the_files_and_their_modes(built, tmp_path):
    root = unpack(pulled(built.descriptor, dict(built.blobs), tmp_path), tmp_path / "out")
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert files == ["README.md", "extension.json", "files/bin/run", "runnables/hello.yaml"]
    assert (root / "files/bin/run").stat().st_mode & 0o777 == 0o555
    assert (root / "README.md").stat().st_mode & 0o777 == 0o444
    assert json.loads((root / "extension.json").read_text())["manifest"]["name"] == "greeter"


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


def hostile(built, tmp_path, tar: bytes) -> PulledBundle:
    """The bundle with another tar in place of its layer `files`, everything else consistent."""
    layers = [layer if layer.kind != "files" else layer.model_copy(update={"digest": digest_bytes(tar), "size": len(tar)})
              for layer in built.descriptor.layers]
    descriptor = built.descriptor.model_copy(update={"layers": layers})
    return pulled(descriptor, {**built.blobs, digest_bytes(tar): tar}, tmp_path)


RUN = b"#!/bin/sh\n"
HOSTILE = {
    "a path outside": [(member("../pwned"), b"x")],
    "an absolute path": [(member("/tmp/pwned"), b"x")],
    "a path out of its layer": [(member("files/../../pwned"), b"x")],
    "a symbolic link": [(member("files/bin/run", tarfile.SYMTYPE, "/etc/passwd"), b"")],
    "a symbolic link and a file through it": [(member("files/bin", tarfile.SYMTYPE, "/tmp"), b""),
                                              (member("files/bin/run"), RUN)],
    "a hard link": [(member("files/bin/run", tarfile.LNKTYPE, "runnables/hello.yaml"), b"")],
    "a device": [(member("files/bin/run", tarfile.CHRTYPE), b"")],
    "a pipe": [(member("files/bin/run", tarfile.FIFOTYPE), b"")],
    "a file that is not listed": [(member("files/bin/run"), RUN), (member("files/more"), b"x")],
    "a file twice": [(member("files/bin/run"), RUN), (member("files/bin/run"), RUN)],
    "a file of another layer": [(member("runnables/hello.yaml"), b"x")],
    "other contents": [(member("files/bin/run"), b"#!/bin/zh\n")],
    "longer contents": [(member("files/bin/run"), RUN + b"x")],
    "nothing": [],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_layer_is_refused_and_nothing_is_left(built, tmp_path, what):
    bundle = hostile(built, tmp_path, tar_of(*HOSTILE[what]))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(InvalidInput):
        unpack(bundle, tmp_path / "out")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_a_header_that_would_fill_the_memory_is_refused(built, tmp_path):
    header = member("x", tarfile.XHDTYPE)
    header.size = 200 << 20
    tar = header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096
    with pytest.raises(InvalidInput, match=r"files\.tar: a header of the archive has"):
        unpack(hostile(built, tmp_path, tar), tmp_path / "out")


def test_a_tar_of_garbage_is_refused(built, tmp_path):
    with pytest.raises(InvalidInput, match=r"files\.tar: the archive cannot be read"):
        unpack(hostile(built, tmp_path, b"garbage " * 1000), tmp_path / "out")


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a//b", "extension.json", "a\\b", "a\nb", ".", "readme.MD",
                                  "README.md/x"])
def test_a_file_list_with_strange_paths_is_refused(built, tmp_path, path):
    more = FileEntry(path=path, size=0, digest=digest_bytes(b""))
    descriptor = built.descriptor.model_copy(update={"files": [*built.descriptor.files, more]})
    with pytest.raises(InvalidInput, match="lists"):
        unpack(pulled(descriptor, dict(built.blobs), tmp_path), tmp_path / "out")


LIES = {
    "artifact type": lambda m: m.update(artifactType="application/vnd.cncf.helm.chart.v1"),
    "no layers": lambda m: m.pop("layers"),
    "no config": lambda m: m.pop("config"),
    "a config of another type": lambda m: m["config"].update(mediaType="application/vnd.oci.image.config.v1+json"),
    "a huge config": lambda m: m["config"].update(size=1 << 40),
    "a layer of another type": lambda m: m["layers"][0].update(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"),
    "a huge layer": lambda m: m["layers"][0].update(size=MAX_LAYER["runnables"] + 1),
    "a negative size": lambda m: m["layers"][0].update(size=-1),
    "a size that is no number": lambda m: m["layers"][0].update(size="12"),
    "a digest that is a path": lambda m: m["layers"][0].update(digest="sha256:../../etc/passwd"),
    "a title that is a path": lambda m: m["layers"][0]["annotations"].update({media.TITLE: "../x"}),
    "a layer twice": lambda m: m["layers"].append(m["layers"][0]),
    "too many layers": lambda m: m.update(layers=m["layers"] * 300),
}


@pytest.mark.parametrize("what", LIES)
def test_a_manifest_that_lies_is_refused_before_anything_is_fetched(built, what):
    document = json.loads(built.manifest)
    LIES[what](document)
    with pytest.raises(InvalidInput):
        read_manifest(json.dumps(document).encode(), media.MANIFEST, "oci://x/y")


@pytest.mark.parametrize("key", ["artifactType", "config", "layers", "Config"])
def test_a_manifest_that_two_readers_understand_differently_is_refused(built, key):
    original = key[0].lower() + key[1:]
    value = json.dumps(json.loads(built.manifest)[original])
    twice = built.manifest.replace(f'"{original}":'.encode(), f'"{key}":{value},"{original}":'.encode(), 1)
    with pytest.raises(InvalidInput, match="twice"):
        read_manifest(twice, media.MANIFEST, "oci://x/y")


@pytest.mark.parametrize("data", [b'{"api_version":' + b"[" * 100_000, b'{"a": 1, "a": 2}', b"\xff{}", b"", b"null"])
def test_a_config_that_is_no_plain_json_is_refused(built, data):
    manifest = read_manifest(built.manifest, media.MANIFEST, "oci://x/y")
    with pytest.raises(InvalidInput, match="descriptor"):
        read_config(manifest, data)


@pytest.mark.parametrize(("icon", "said"), [
    (b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", "event handler"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><a href='javascript:x()'/></svg>", "fetch nothing"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><style>@import 'https://e.org'</style></svg>", "fetch nothing"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><rect fill='url(https://e.org)'/></svg>", "elsewhere"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'><foreignObject/></svg>", "foreignObject"),
    (b"<html/>", "not an SVG"), (b"\x89PNG", "not an SVG"), (b"<svg", "not an SVG"),
    (b"<svg>" + b"<g/>" * 6000 + b"</svg>", "elements"),
])
def test_an_icon_is_a_picture_and_nothing_else(icon, said):
    with pytest.raises(InvalidInput, match=said):
        check_icon(icon, "icon.svg")


def test_harmless_icons_are_accepted():
    check_icon(b"<svg xmlns='http://www.w3.org/2000/svg'><defs><g id='a'/></defs><use href='#a'/>"
               b"<rect fill='url(#a)'/></svg>", "icon.svg")
    check_icon(b"\x89PNG\r\n\x1a\n...", "icon.png")
    with pytest.raises(InvalidInput, match="not a PNG"):
        check_icon(b"<svg/>", "icon.png")


def test_an_index_or_garbage_is_not_a_bundle(built):
    for data, media_type in ((built.manifest, media.INDEX), (b"[]", media.MANIFEST), (b"{", media.MANIFEST)):
        with pytest.raises(InvalidInput):
            read_manifest(data, media_type, "oci://x/y")


def test_a_config_that_speaks_of_other_layers_is_refused(built):
    manifest = read_manifest(built.manifest, media.MANIFEST, "oci://x/y")
    other = built.descriptor.model_copy(update={"layers": built.descriptor.layers[1:]})
    with pytest.raises(InvalidInput, match="different layers"):
        read_config(manifest, other.encode())
    with pytest.raises(InvalidInput, match="descriptor"):
        read_config(manifest, b'{"name": "x"}')
