"""Archives: deterministic when written, harmless when read."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from fuseml_sdk.archives import Limits, read_files, tar_bytes, tar_of, unpack, write_files
from fuseml_sdk.errors import InvalidInput


def tree(root: Path) -> Path:
    (root / "b/c").mkdir(parents=True)
    (root / "b/c/data.txt").write_text("data")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    (root / ("l" * 120 + "ä.txt")).write_text("long")
    return root


def hostile(*members: tarfile.TarInfo, data: bytes = b"x") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    buffer.seek(0)
    return buffer


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def test_equal_trees_give_equal_bytes(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "run.sh", (1, 1))
    assert tar_bytes(one) == tar_bytes(two)


def test_round_trip_keeps_files_and_executable_bits(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    names = unpack(io.BytesIO(tar_bytes(source)), tmp_path / "out")
    assert names == sorted(["b/c/data.txt", "run.sh", "l" * 120 + "ä.txt"])
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o777 & ~0o022 == 0o755
    assert not (tmp_path / "out/b/c/data.txt").stat().st_mode & 0o111


def test_selected_paths_bring_their_directories(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    with tarfile.open(fileobj=io.BytesIO(tar_bytes(source, ["b/c/data.txt"]))) as archive:
        assert archive.getnames() == ["b", "b/c", "b/c/data.txt"]


def test_links_are_refused_unless_wanted(tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    (source / "link").symlink_to("run.sh")
    with pytest.raises(InvalidInput, match="symbolic link"):
        tar_bytes(source)
    unpack(io.BytesIO(tar_bytes(source, links=True)), tmp_path / "out")
    assert (tmp_path / "out/link").readlink() == Path("run.sh")


@pytest.mark.parametrize("members", [
    [member("/etc/evil")],
    [member("../evil")],
    [member("a/../../evil")],
    [member("a\\b")],
    [member("link", tarfile.SYMTYPE, "/etc/passwd")],
    [member("link", tarfile.SYMTYPE, "../outside")],
    [member("dir", tarfile.SYMTYPE, "."), member("dir/evil")],
    [member("d", tarfile.DIRTYPE), member("d/up", tarfile.SYMTYPE, ".."), member("out", tarfile.SYMTYPE, "d/up/..")],
    [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
    [member("null", tarfile.CHRTYPE)],
    [member("pipe", tarfile.FIFOTYPE)],
    [member("suid", mode=0o4755)],
    [member("Read.me"), member("README.md"), member("read.ME")],
    [member("A/x"), member("a/y")],
    [member("twice"), member("twice")],
    [member("file"), member("file/below")],
], ids=lambda members: members[-1].name)
def test_hostile_archives_leave_nothing(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    for info in members:
        info.mode = info.mode or 0o644
    with pytest.raises(InvalidInput):
        unpack(hostile(*members), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bombs_are_refused(tmp_path: Path) -> None:
    bomb = io.BytesIO(gzip.compress(hostile(member("zeros"), data=b"\0" * (64 << 20)).getvalue()))
    with pytest.raises(InvalidInput, match="times its size"):
        unpack(bomb, tmp_path / "out")
    with pytest.raises(InvalidInput, match="more than 2 members"):
        unpack(hostile(*(member(str(i)) for i in range(3))), tmp_path / "out", limits=Limits(members=2))
    with pytest.raises(InvalidInput, match="bytes"):
        unpack(hostile(member("big"), data=b"x" * 100), tmp_path / "out", limits=Limits(size=99))


@pytest.mark.parametrize("damage", [b"", b"not a tar", "cut"])
def test_damaged_archives_are_refused(tmp_path: Path, damage: bytes | str) -> None:
    data = tar_bytes(tree(tmp_path / "source"))[:700] if damage == "cut" else damage
    if not data:
        with pytest.raises(InvalidInput):
            unpack(io.BytesIO(b""), tmp_path / "out")
        return
    assert isinstance(data, bytes)
    with pytest.raises(InvalidInput):
        unpack(io.BytesIO(data), tmp_path / "out")


def test_only_fresh_directories_are_filled(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(InvalidInput, match="not empty"):
        unpack(hostile(member("x")), tmp_path)
    assert (tmp_path / "mine").read_text() == "keep"


def test_files_in_memory_give_the_same_archive_in_any_order() -> None:
    files = [("b", b"two", False), ("a/" + "l" * 120 + "ä", b"one", True)]
    data = tar_of(files)
    assert data == tar_of(reversed(files))
    assert [(name, b"".join(blocks)) for name, blocks in read_files(io.BytesIO(data))] == [
        (name, contents) for name, contents, _ in sorted(files)]


@pytest.mark.parametrize("info", [member("d", tarfile.DIRTYPE), member("l", tarfile.SYMTYPE, "x"), member("../x")],
                         ids=lambda info: info.name)
def test_reading_files_refuses_everything_else(info: tarfile.TarInfo) -> None:
    with pytest.raises(InvalidInput):
        list(read_files(hostile(info)))


def test_compression_is_not_expected_where_plain_archives_are() -> None:
    with pytest.raises(InvalidInput, match="archive"):
        list(read_files(io.BytesIO(gzip.compress(tar_of([("a", b"one", False)])))))


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    cut = tar_of([("a", b"x" * 5000, False)])[:3000]
    with pytest.raises(InvalidInput, match="cannot be read"):
        unpack(io.BytesIO(cut), tmp_path / "out")
    with pytest.raises(InvalidInput, match="cannot be read"):
        [b"".join(blocks) for _, blocks in read_files(io.BytesIO(cut))]
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    header = member("x", tarfile.XHDTYPE)
    header.size = 200 << 20
    with pytest.raises(InvalidInput, match="header of the archive has"):
        unpack(io.BytesIO(header.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096), tmp_path / "out")


def test_a_large_file_is_no_bomb(tmp_path: Path) -> None:
    """The first header announces more than two hundred times what was read until then."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/large").write_bytes(os.urandom(6 << 20))
    data = tar_bytes(tmp_path / "source")
    assert unpack(io.BytesIO(gzip.compress(data, 1)), tmp_path / "out") == ["large"]
    assert [len(b"".join(blocks)) for _, blocks in read_files(io.BytesIO(tar_of([("zeros", bytes(6 << 20), False)])))] == [6 << 20]


def test_a_bomb_is_stopped_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO(gzip.compress(hostile(*(member(f"z{i}") for i in range(8)), data=bytes(8 << 20)).getvalue()))
    written = []
    real = os.fdopen

    def watched(*arguments: object, **options: object) -> object:
        written.append(1)
        return real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "fdopen", watched)
    with pytest.raises(InvalidInput, match="times its size"):
        unpack(bomb, tmp_path / "out")
    assert len(written) < 4


def test_files_are_written_from_disk_as_from_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    one, two = io.BytesIO(), io.BytesIO()
    write_files(one, [("b", b"two", True), ("a", tmp_path / "a", False)])
    write_files(two, [("a", b"one", False), ("b", b"two", True)])
    assert one.getvalue() == two.getvalue()


def test_links_in_a_circle_are_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, link in (("a", "b"), ("b", "a")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member)
    buffer.seek(0)
    with pytest.raises(InvalidInput, match="leads in a circle"):
        unpack(buffer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
