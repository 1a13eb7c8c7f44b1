"""Wheels for bundles: built by uv in isolation, then rewritten so that equal contents give equal bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from fuseml_oci.sections import Source, open_source
from fuseml_sdk.environments import IndexSettings
from fuseml_sdk.errors import InvalidInput, Permanent

#: 1980-01-01, the earliest time a zip file can hold. https://reproducible-builds.org/specs/source-date-epoch/
SOURCE_DATE_EPOCH = 315532800
#: What zipfile raises at damaged archives.
UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, KeyError, IndexError, struct.error,
              zlib.error)
#: What a wheel may unpack to: files, bytes, and bytes for each byte of it.
_MOST_FILES, _MOST_BYTES, _RATIO = 100_000, 8 << 30, 200
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_BUILD_TIMEOUT = 900.0
#: What lies in project folders without being source.
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", ".dev", ".tox", "__pycache__", "*.pyc", "build", "dist",
                                    "*.egg-info", ".*_cache", "node_modules")
_WHEEL_NAME = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.!+]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel with deterministic bytes."""

    filename: str
    data: bytes

    @property
    def distribution(self) -> str:
        """Normalised name of the distribution, such as `fuseml-sdk`."""
        match = _WHEEL_NAME.fullmatch(self.filename)
        return re.sub(r"[-_.]+", "-", match["name"]).lower() if match else self.filename

    def names(self) -> frozenset[str]:
        """Paths of the files inside."""
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            return frozenset(archive.namelist())


def make_wheel(source: Path, *, constraints: Path | None = None) -> Wheel:
    """Return the wheel of a project folder, or a finished wheel, with deterministic bytes.

    Args:
        source: A folder with pyproject.toml, or a `.whl` file.
        constraints: Pins for what the build itself needs; without it build tools that are cached are taken, or
            else the newest.

    Raises:
        InvalidInput: It is neither, or the build fails; the message ends with what the build printed.
    """
    if source.is_file() and source.suffix == ".whl":
        return normalise(source.name, source.read_bytes())
    if not (source / "pyproject.toml").is_file():
        raise InvalidInput(f"{source} is neither a project folder with pyproject.toml nor a wheel")
    with tempfile.TemporaryDirectory(prefix="fuseml-wheel-") as temporary:
        copy, out = Path(temporary, "source"), Path(temporary, "out")
        _copy(source, copy)
        _run_build(source, copy, out, constraints)
        built = sorted(out.glob("*.whl"))
        if len(built) != 1:
            raise InvalidInput(f"building {source} made {len(built)} wheels instead of one")
        return normalise(built[0].name, built[0].read_bytes())


def check_names(filename: str, source: Source) -> None:
    """Refuse a wheel whose files would not all land below one folder, or would fill it, before anything installs it.

    Raises:
        InvalidInput: It is not a zip file, a name in it is absolute, leads upwards or occurs twice, or it is a bomb.
    """
    try:
        with open_source(source)[0] as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except UNREADABLE as error:
        raise InvalidInput(f"{filename} is not a wheel: {error}") from None
    _refuse_bomb(filename, entries)
    seen: set[str] = set()
    for entry in entries:
        # `filename` has lost what follows a NUL and `orig_filename` has not.
        name, parts = entry.orig_filename, entry.orig_filename.rstrip("/").split("/")
        if {"..", ".", ""} & set(parts) or "\\" in name or ":" in parts[0] or not name.isprintable():
            raise InvalidInput(f"{filename}: the file name {name[:200]!r} does not stay inside the wheel")
        if entry.external_attr >> 16 and stat.S_IFMT(entry.external_attr >> 16) == stat.S_IFLNK:
            raise InvalidInput(f"{filename}: {name[:200]!r} is a link; wheels hold plain files")
        if name in seen:
            raise InvalidInput(f"{filename}: {name[:200]!r} is there twice")
        seen.add(name)


def _refuse_bomb(filename: str, entries: list[zipfile.ZipInfo]) -> None:
    size, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise InvalidInput(f"{filename} has {len(entries)} files with {size} bytes; at most {_MOST_FILES} and "
                           f"{_MOST_BYTES} are allowed")
    if size > (64 << 20) and size > _RATIO * max(packed, 1):
        raise InvalidInput(f"{filename} unpacks to more than {_RATIO} times its size")


def normalise(filename: str, data: bytes) -> Wheel:
    """Rewrite a wheel: stored, sorted, fixed times and modes, the builder's version taken out, RECORD made anew.

    Compression differs between zlib builds and the generator's version between machines; neither is contents.
    https://packaging.python.org/en/latest/specifications/binary-distribution-format/

    Raises:
        InvalidInput: It is not a wheel.
    """
    if not _WHEEL_NAME.fullmatch(filename):
        raise InvalidInput(f"{filename!r} is not the file name of a wheel")
    check_names(filename, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {info.filename: (archive.read(info), bool(info.external_attr >> 16 & 0o100))
                       for info in archive.infolist() if not info.is_dir()}
    except UNREADABLE as error:
        raise InvalidInput(f"{filename} is not a wheel: {error}") from None
    record = next((name for name in entries if name.count("/") == 1 and name.endswith(".dist-info/RECORD")), None)
    if record is None:
        raise InvalidInput(f"{filename} is not a wheel: it has no .dist-info/RECORD")
    marker = record.removesuffix("RECORD") + "WHEEL"
    if marker in entries:
        entries[marker] = (_without_generator(entries[marker][0]), False)
    return Wheel(filename, _write(entries, record))


def _without_generator(text: bytes) -> bytes:
    lines = text.decode().splitlines()
    return "".join(f"{'Generator: fuseml-bundle' if line.startswith('Generator:') else line}\n"
                   for line in lines if line).encode()


def _write(entries: dict[str, tuple[bytes, bool]], record: str) -> bytes:
    names = sorted(name for name in entries if name != record)
    lines = [f"{_quoted(name)},sha256={_record_hash(entries[name][0])},{len(entries[name][0])}\n" for name in names]
    entries = {**{name: entries[name] for name in names},
               record: ("".join([*lines, f"{_quoted(record)},,\n"]).encode(), False)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, (data, executable) in entries.items():
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.create_system = 3  # Unix, so that the modes count
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _copy(source: Path, target: Path) -> None:
    """Copy a project with uniform modes, so that neither umask nor left-over build results leak into the wheel."""
    try:
        shutil.copytree(source, target, ignore=NOT_SOURCE, copy_function=shutil.copyfile)
    except (shutil.Error, OSError) as error:
        raise InvalidInput(f"the project folder {source} cannot be copied: {error}") from None
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or is_executable(source / path.relative_to(target)) else 0o644)


def is_executable(path: Path) -> bool:
    """Whether the owner may execute the file: the only part of a mode that counts in a wheel."""
    return bool(path.stat().st_mode & 0o100)


def _run_build(source: Path, copy: Path, out: Path, constraints: Path | None) -> None:
    command = [_uv(), "build", "--wheel", "--no-sources", "--python", sys.executable,
               "--out-dir", str(out), str(copy)]
    if constraints is not None:
        command += ["--build-constraints", str(constraints)]
    # Build tools that are cached need no network; asking an index for them is what takes the time.
    for attempt in ([*command, "--offline"], command):
        try:
            done = subprocess.run(attempt, env=_environment(), capture_output=True, text=True, errors="replace",
                                  timeout=_BUILD_TIMEOUT, check=False, umask=0o022)
        except subprocess.TimeoutExpired:
            raise Permanent(f"building the wheel of {source} took longer than {_BUILD_TIMEOUT:.0f} s") from None
        if done.returncode == 0:
            return
    last = "\n".join(done.stderr.strip().splitlines()[-15:]).replace(str(copy), str(source))
    raise InvalidInput(f"building the wheel of {source} failed:\n{last}")


def _environment() -> dict[str, str]:
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSAFEPATH", "LANG", "LANGUAGE")
    env = {key: value for key, value in os.environ.items() if key not in dropped and not key.startswith("LC_")}
    if index := env.get("FUSEML_INDEX_URL"):
        env["UV_DEFAULT_INDEX"] = index
    return {**IndexSettings().variables(env), **env, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "LC_ALL": "C.UTF-8",
            "TZ": "UTC", "PYTHONHASHSEED": "0"}


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise Permanent("the program `uv` is not there, and bundles with wheels need it",
                        hint="Install it with `pip install uv`.")
    return found
