"""Bundles made by an attacker, on the real way: pushed to a real registry, found, pulled, unpacked, installed.

Nothing of them may appear outside, stay inside, or be run, and the message says what was wrong.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuseml_core.domain.errors import FusemlError, Invalid
from fuseml_oci import media
from fuseml_oci.bundles import build
from fuseml_oci.bundles.descriptor import LAYER_TYPES, MAX_CONFIG, MAX_LAYERS
from fuseml_oci.client import RegistryClient
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput

RUN = b"#!/bin/sh\necho hello\n"
SOURCE = {
    "extension.toml": 'name = "evil"\nversion = "0.1.0"\nsummary = "Does harm."\nicon = "icon.svg"\n[environment]\n'
                      'wheels = ["wheels/good-1.0-py3-none-any.whl"]\n',
    "runnables/hello.json": '{"name": "hello", "command": ["{python}", "-V"]}',
    "files/bin/run": RUN.decode(), "README.md": "# Evil\n",
    "icon.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
}


def wheel(extra: dict[str, bytes] | None = None, *, link: str = "", packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("good.py", "")
        archive.writestr("good-1.0.dist-info/METADATA", "Metadata-Version: 2.4\nName: good\nVersion: 1.0\n")
        archive.writestr("good-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("good-1.0.dist-info/RECORD", "")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo("link")
            info.external_attr = 0o120777 << 16
            archive.writestr(info, link)
    return buffer.getvalue()


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type_, link, mode
    return info


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else info.size
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Attack:
    """A consistent bundle whose parts are replaced before it is pushed by raw requests."""

    def __init__(self, folder: Path) -> None:
        for name, text in SOURCE.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "wheels").mkdir()
        (folder / "wheels/good-1.0-py3-none-any.whl").write_bytes(wheel())
        built = build(folder)
        self.manifest: dict[str, Any] = json.loads(built.manifest)
        self.config: dict[str, Any] = json.loads(built.descriptor.encode())
        self.blobs: dict[str, bytes] = {digest: bytes(data) for digest, data in built.blobs.items()}
        self.raw_config: bytes | None = None
        self.raw_manifest: Callable[[bytes], bytes] = lambda data: data
        self.media_type = media.MANIFEST

    def replace(self, kind: str, data: bytes, listed: dict[str, bytes] | None = None) -> None:
        """Put other bytes in place of a layer, everything else consistent; `listed` are the files it claims."""
        for n, layer in enumerate(self.config["layers"]):
            if layer["kind"] == kind:
                layer.update(digest=digest_bytes(data), size=len(data))
                self.manifest["layers"][n].update(digest=digest_bytes(data), size=len(data))
        self.blobs[digest_bytes(data)] = data
        for path, contents in (listed or {}).items():
            self.config["files"] = [file for file in self.config["files"] if file["path"] != path]
            self.config["files"].append({"path": path, "size": len(contents), "digest": digest_bytes(contents)})

    def files(self, *members: tuple[tarfile.TarInfo, bytes], listed: dict[str, bytes] | None = None) -> None:
        self.replace("files", tar_of(*members), listed)

    def whl(self, **arguments: Any) -> None:
        data = wheel(**arguments)
        self.replace("wheel", data, {"wheels/good-1.0-py3-none-any.whl": data})

    def layer(self, **fields: Any) -> None:
        self.manifest["layers"][0].update(fields)

    def push(self, place: str) -> None:
        config = self.raw_config if self.raw_config is not None else json.dumps(self.config).encode()
        self.manifest["config"].update({"digest": digest_bytes(config), "size": len(config)})
        with RegistryClient(place) as client:
            for data in [*self.blobs.values(), config]:
                client.push_blob("extensions/evil", data, digest_bytes(data), "application/octet-stream")
            manifest = self.raw_manifest(json.dumps(self.manifest).encode())
            client.push_manifest("extensions/evil", "0.1.0", manifest, self.media_type)


def _sparse() -> tarfile.TarInfo:
    info = member("files/bin/run")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "files/bin/run",
                        "GNU.sparse.realsize": str(1 << 40)}
    return info


def _twice(data: bytes) -> bytes:
    return data.replace(b'"artifactType"', b'"artifactType": "application/vnd.fuseml.extension.v1+json", "artifactType"', 1)


def _deep(attack: Attack) -> None:
    attack.raw_config = b'{"api_version":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


def _config_twice(attack: Attack) -> None:
    attack.raw_config = json.dumps(attack.config).encode().replace(b'"name": "evil"', b'"name": "good", "name": "evil"', 1)


def _large_config(attack: Attack) -> None:
    attack.raw_config = json.dumps({**attack.config, "padding": "x" * (10 << 20)}).encode()


def _many_layers(attack: Attack) -> None:
    empty = b"{}"
    attack.blobs[digest_bytes(empty)] = empty
    attack.manifest["layers"] = [
        {"mediaType": LAYER_TYPES["vendored"], "digest": digest_bytes(empty), "size": 2,
         "annotations": {media.TITLE: f"w-{n}-py3-none-any.whl"}} for n in range(MAX_LAYERS + 1)]


def _latin(attack: Attack) -> None:
    data = tar_of((member("files/bin/run"), RUN), (member("files/@@@@"), b"x")).replace(b"files/@@@@", b"files/\xff\xfe\xe4x")
    # The header's checksum is that of the old name.
    header = bytearray(data)
    start = data.index(b"files/\xff")
    block = bytearray(data[start:start + 512])
    block[148:156] = b" " * 8
    header[start + 148:start + 156] = b"%06o\0 " % sum(block)
    attack.replace("files", bytes(header))


#: What is done to the bundle, and what the refusal says.
ATTACKS: dict[str, tuple[Callable[[Attack], Any], str]] = {
    "symlink": (lambda a: a.files((member("files/bin/run", tarfile.SYMTYPE, "/etc/passwd"), b"")), "not a plain file|link"),
    "symlink-then-file": (lambda a: a.files((member("files/bin", tarfile.SYMTYPE, "/tmp"), b""),
                                            (member("files/bin/run"), RUN)), "plain file|directory"),
    "hardlink": (lambda a: a.files((member("files/bin/run", tarfile.LNKTYPE, "/etc/passwd"), b"")), "hard link"),
    "absolute": (lambda a: a.files((member("/tmp/fuseml-pwned"), b"x"), listed={"/tmp/fuseml-pwned": b"x"}), "stay|allowed"),
    "dot-dot": (lambda a: a.files((member("files/../../../pwned"), b"x"), listed={"files/../../../pwned": b"x"}), "stay|allowed"),
    "sibling-prefix": (lambda a: a.files((member("files-evil/x"), b"x"), listed={"files-evil/x": b"x"}), "does not belong"),
    "device": (lambda a: a.files((member("files/bin/run", tarfile.CHRTYPE), b"")), "device"),
    "fifo": (lambda a: a.files((member("files/bin/run", tarfile.FIFOTYPE), b"")), "pipe"),
    "setuid": (lambda a: a.files((member("files/bin/run", mode=0o4755), RUN)), "set-user-id"),
    "sparse": (lambda a: a.files((_sparse(), b"1\n0\n512\n".ljust(512, b"\0"))), "sparse|cannot be read|bytes"),
    "bomb-by-ratio": (lambda a: a.replace("files", gzip.compress(tar_of((member("files/bin/run"), bytes(32 << 20))))),
                      "cannot be read"),
    "bomb-by-count": (lambda a: a.files(*((member(f"files/{n}"), b"") for n in range(20_001))), "members|list"),
    "bomb-by-size": (lambda a: a.files((member("files/bin/run"), bytes(8 << 20))), "size and digest"),
    "bomb-by-depth": (lambda a: a.files((member("files/" + "d/" * 500 + "x"), b"x"), listed={"files/" + "d/" * 500 + "x": b"x"}),
                      "nested|allowed"),
    "long-name": (lambda a: a.files((member("files/" + "n" * 5000), b"x"), listed={"files/" + "n" * 5000: b"x"}), "long|allowed"),
    "digest-with-path": (lambda a: a.layer(digest="sha256:../../../../etc/passwd"), "digest"),
    "config-digest-with-path": (lambda a: a.config["layers"][0].update(digest="sha256:../../x"), "digest"),
    "layer-of-another-type": (lambda a: a.layer(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"), "media type"),
    "config-of-another-type": (lambda a: a.manifest["config"].update(mediaType="application/vnd.oci.image.config.v1+json"), "config is"),
    "manifest-as-layer": (lambda a: a.layer(mediaType=media.MANIFEST), "media type"),
    "an-image": (lambda a: a.manifest.update(artifactType="application/vnd.docker.image"), "not a bundle"),
    "key-twice": (lambda a: setattr(a, "raw_manifest", _twice), "twice"),
    "config-key-twice": (_config_twice, "twice"),
    "non-utf8-name": (_latin, "cannot be read|stay|encode"),
    "case-collision": (lambda a: a.files((member("files/bin/run"), RUN), (member("files/BIN/run"), RUN),
                                         listed={"files/bin/run": RUN, "files/BIN/run": RUN}), "same path|in case"),
    "accent-collision": (lambda a: a.files((member("files/bin/run"), RUN), (member("files/\u00e9"), b"x"), (member("files/e\u0301"), b"x"),
                                           listed={"files/\u00e9": b"x", "files/e\u0301": b"x"}), "same path|in case"),
    "file-twice": (lambda a: a.files((member("files/bin/run"), RUN), (member("files/bin/run"), RUN)), "twice"),
    "config-of-10-MiB": (_large_config, f"at most {MAX_CONFIG}"),
    "deep-json": (_deep, "descriptor|JSON"),
    "layer-count": (_many_layers, f"at most {MAX_LAYERS} layers"),
    "duplicate-layers": (lambda a: a.manifest["layers"].append(a.manifest["layers"][0]), "several layers|same title"),
    "config-lies-about-layers": (lambda a: a.config["layers"].pop(), "different layers"),
    "config-lies-about-files": (lambda a: a.config["files"].append({"path": "files/more", "size": 1, "digest": digest_bytes(b"x")}),
                                "lacks"),
    "config-lies-about-name": (lambda a: a.config["manifest"].update(name="good"), "contains the extension"),
    "config-lies-about-version": (lambda a: a.config["manifest"].update(version="9.9.9"), "contains version"),
    "descriptor-as-file": (lambda a: a.files((member("extension.json"), b"{}"), listed={"extension.json": b"{}"}), "allowed"),
    "wheel-traversal": (lambda a: a.whl(extra={"../../../../pwned.py": b"x"}), "does not stay inside the wheel"),
    "wheel-absolute": (lambda a: a.whl(extra={"/tmp/fuseml-pwned.py": b"x"}), "does not stay inside the wheel"),
    "wheel-data-traversal": (lambda a: a.whl(extra={"good-1.0.data/data/../../../x": b"x"}), "does not stay inside the wheel"),
    "wheel-link": (lambda a: a.whl(link="/etc/passwd"), "is a link"),
    "wheel-bomb": (lambda a: a.whl(extra={"zeros": bytes(80 << 20)}, packed=True), "times its size"),
    "wheel-title-is-a-path": (lambda a: next(layer for layer in a.manifest["layers"] if "wheel" in layer["mediaType"])
                              ["annotations"].update({media.TITLE: "../good-1.0-py3-none-any.whl"}), "not a file name"),
    "icon-with-script": (lambda a: a.replace("icon", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
                                             {"icon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"}),
                         "element 'script'"),
    "icon-with-entities": (lambda a: a.replace("icon", b"<!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg>&a;</svg>"), "entities"),
    "icon-that-fetches": (lambda a: a.replace("icon", b"<svg xmlns='http://www.w3.org/2000/svg'><use href='https://e.org/x#y'/></svg>"),
                          "fetch nothing"),
}


#: What our own registry does not even take; `plugins/fuseml-oci/tests` reads them as another registry would give them.
NOT_TAKEN = {"digest-with-path", "key-twice"}


@pytest.mark.parametrize("name", sorted(NOT_TAKEN))
def test_our_registry_does_not_take_a_manifest_of_two_meanings(world, tmp_path, name):
    attack = Attack(tmp_path / "source")
    ATTACKS[name][0](attack)
    with pytest.raises(InvalidInput, match=ATTACKS[name][1]):
        attack.push(world.place)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in NOT_TAKEN])
def test_r170_a_hostile_bundle_is_refused_whole(world, tmp_path, name):
    spoil, said = ATTACKS[name]
    attack = Attack(tmp_path / "source")
    spoil(attack)
    attack.push(world.place)
    before = _outside(tmp_path, world.home)

    with pytest.raises(FusemlError) as raised:
        world.install("evil:0.1.0")

    message = f"{raised.value.message} {raised.value.hint}"
    assert isinstance(raised.value, Invalid), repr(raised.value)
    assert re.search(said, message), message
    assert len(message) < 2000
    assert _outside(tmp_path, world.home) == before
    assert not Path("/tmp/fuseml-pwned").exists()
    assert world.extensions.list() == []
    assert world.nothing_is_half_made()
    assert not list((world.home / "extensions/store").glob("*"))


def test_the_harmless_one_is_installed(world, tmp_path):
    """Otherwise the refusals above would prove nothing."""
    Attack(tmp_path / "source").push(world.place)
    assert world.install("evil:0.1.0")["state"] == "active"


def _outside(folder: Path, home: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if not path.is_relative_to(home)
                  and not path.is_relative_to(folder / "registry"))
