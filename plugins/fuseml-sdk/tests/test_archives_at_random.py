"""Whatever the bytes of an archive are: it is unpacked inside its folder, or refused with nothing left."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml_sdk.archives import Limits, read_files, unpack
from fuseml_sdk.errors import InvalidInput

LIMITS = Limits(members=50, size=1 << 20)
PARTS = st.sampled_from(["a", "A", "..", ".", "", "b c", "é", "e\u0301", "x" * 300, "\\", "\t", "link", "-", "~", "con", "a\nb"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
TYPES = st.sampled_from([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
                         tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE])
MEMBERS = st.lists(st.tuples(NAMES, TYPES, NAMES, st.integers(0, 0o7777), st.binary(max_size=40)), max_size=8)


def archive_of(members: list[tuple[str, bytes, str, int, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, type_, link, mode, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = type_, link, mode
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return buffer.getvalue()


def try_out(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "in", "out")
        root.parent.mkdir()
        try:
            names = unpack(io.BytesIO(data), root, limits=LIMITS)
        except InvalidInput:
            assert list(Path(place).rglob("*")) == [root.parent]
        else:
            found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or path.is_file()}
            assert found == set(names)
            assert all(path.resolve().is_relative_to(root.resolve()) for path in root.rglob("*"))
            assert not any(path.stat().st_mode & 0o7000 for path in root.rglob("*") if path.is_file())
            assert {path.name for path in Path(place).iterdir()} == {"in"}
    try:
        for _name, blocks in read_files(io.BytesIO(data), limits=LIMITS):
            assert sum(map(len, blocks)) <= LIMITS.size
    except InvalidInput:
        pass


@settings(max_examples=150, deadline=None)
@given(MEMBERS, st.booleans())
def test_any_members(members: list[tuple[str, bytes, str, int, bytes]], compressed: bool) -> None:
    data = archive_of(members)
    try_out(gzip.compress(data, 1) if compressed else data)


@settings(max_examples=150, deadline=None)
@given(MEMBERS, st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 3))
def test_any_damage(members: list[tuple[str, bytes, str, int, bytes]], changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(archive_of(members))
    for position, value in changes:
        data[position % len(data)] = value
    try_out(bytes(data[:len(data) * (4 - cut) // 4]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    try_out(data)
