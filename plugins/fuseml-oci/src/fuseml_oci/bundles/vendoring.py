"""The wheels of a lock, fetched so that they can be carried along: checked by hash, their URLs kept nowhere.

uv says where each wheel of the lock lies on the index in force (a `pylock.toml` that is never written); the best
one for each wanted Python and platform is chosen as an installer would.
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import requests
from packaging.utils import canonicalize_name

from fuseml_oci.bundles.build import LOCK_FILE, read_source_manifest
from fuseml_oci.bundles.checks import check_lock
from fuseml_oci.bundles.descriptor import MAX_LAYER
from fuseml_oci.bundles.documents import read_documents
from fuseml_oci.bundles.targets import Target, best_wheel, target
from fuseml_oci.bundles.tree import read_tree
from fuseml_oci.digests import BUFFER, digest_file
from fuseml_sdk.environments import IndexSettings, trusted_authorities
from fuseml_sdk.environments.tool import run_uv
from fuseml_sdk.errors import InvalidInput, NotReady, PluginError, Retryable
from fuseml_sdk.types import RunnableDescriptor

Progress = Callable[[str], None]
_RESOLVE_SECONDS, _CONNECT_SECONDS, _READ_SECONDS = 300.0, 10.0, 60.0
#: Times that a file is asked for, and files fetched at once.
_ATTEMPTS, _AT_ONCE = 3, 6
_PIN = re.compile(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class _File:
    """A wheel on the index."""

    name: str
    url: str
    sha256: str


def collect(lock: Path, python: str, destination: Path, index: IndexSettings | None = None, *, platform: str = "",
            progress: Progress | None = None) -> list[Path]:
    """Fetch the wheels of a lock for one Python version on one platform.

    Args:
        lock: Hashed requirements without URLs.
        python: Minor version such as `3.12`; empty: the running one.
        destination: Folder of wheels; what is there already with the right hash is not fetched again.
        index: How to reach a package index.
        platform: One of :data:`fuseml_oci.bundles.targets.PLATFORMS`; empty: this one.
        progress: Told what is fetched.

    Returns:
        The wheel files, by name. Packages whose markers exclude the target are not among them.

    Raises:
        InvalidInput: The lock is wrong, a package has no wheel for the target, or a file has another hash than the
            lock's.
        Retryable: The index could not be reached.
        NotReady: Offline, and a wheel is not in `destination`.
    """
    wanted, settings = target(python, platform), index or IndexSettings()
    text = lock.read_text(encoding="utf-8")
    check_lock(text, lock.name)
    allowed = hashes_of(text)
    destination.mkdir(parents=True, exist_ok=True)
    files = [] if not allowed else _chosen(_resolved(text, wanted, settings), wanted, allowed)
    say = progress or (lambda _text: None)
    with requests.Session() as session, ThreadPoolExecutor(_AT_ONCE) as pool:
        session.proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        session.verify = trusted_authorities(settings.ca_bundle) or True
        _share_credentials(session, settings)
        return sorted(pool.map(lambda file: _fetch(file, destination, session, settings, say), files))


def vendor(source: Path, destination: Path, *, pythons: Sequence[str] = (), platforms: Sequence[str] = (),
           index: IndexSettings | None = None, progress: Progress | None = None) -> list[Path]:
    """Fetch the wheels of a bundle's locks for several targets, for `build(…, vendored=…)`.

    Args:
        source: Folder with extension.toml.
        destination: As for :func:`collect`.
        pythons: Minor versions; by default the running one.
        platforms: By default this one.
        index: How to reach a package index.
        progress: Told what is fetched.

    Raises:
        InvalidInput: As :func:`collect`, or the bundle has no lock.
    """
    locks = locks_of(source)
    if not locks:
        raise InvalidInput(f"{source}: the bundle has no lock, so there are no wheels to carry",
                           hint="Lock what the extension needs: uv pip compile --universal --generate-hashes "
                                "--no-emit-index-url requirements.in -o requirements.lock")
    found = {path for lock in locks for python in pythons or ("",) for platform in platforms or ("",)
             for path in collect(lock, python, destination, index, platform=platform, progress=progress)}
    return sorted(found)


def locks_of(source: Path) -> list[Path]:
    """The locks of a bundle's source: that of the extension, and those that its runnables name.

    Raises:
        InvalidInput: Manifest or runnables cannot be read.
    """
    manifest = read_source_manifest(source)
    named = {manifest.environment.lock} if manifest.environment else set[str]()
    runnables = read_documents(read_tree(source, "runnables", limit=MAX_LAYER["runnables"]), manifest.runnables,
                               "runnables", RunnableDescriptor)
    for document in runnables:
        for environment in (document.model.environment, *document.model.environments.values()):
            lock = environment.lock
            if lock and not (lock == LOCK_FILE and manifest.environment):  # the bundle's name of the extension's own
                named.add(lock)
    return [source / name for name in sorted(named) if (source / name).is_file()]


def hashes_of(lock: str) -> dict[str, frozenset[str]]:
    """The hexadecimal SHA-256 digests that a lock allows, by normalised name of the distribution."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in lock.splitlines():
        if pin := _PIN.match(line):
            name = canonicalize_name(pin[1])
        if name:
            found.setdefault(name, set()).update(_HASH.findall(line))
    return {name: frozenset(hashes) for name, hashes in found.items()}


def _resolved(lock: str, wanted: Target, index: IndexSettings) -> list[Mapping[str, Any]]:
    """The packages of the lock that the target needs, with the files that the index has of them."""
    text = run_uv(["pip", "compile", "-", "--quiet", "--format", "pylock.toml", "--no-deps", "--no-header",
                   "--no-annotate", "--python-version", wanted.python, "--python-platform", wanted.triple],
                  index=index, timeout=_RESOLVE_SECONDS, stdin=lock)
    packages = tomllib.loads(text).get("packages") or []
    return [package for package in packages if isinstance(package, dict)]


def _chosen(packages: Iterable[Mapping[str, Any]], wanted: Target,
            allowed: Mapping[str, frozenset[str]]) -> list[_File]:
    files = []
    for package in packages:
        name = canonicalize_name(str(package["name"]))
        known = {file.name: file for wheel in package.get("wheels") or [] if (file := _file(wheel)) is not None
                 and file.sha256 in allowed.get(name, ())}
        best = best_wheel(known, wanted)
        if best is None:
            raise InvalidInput(f"{name} {package.get('version', '')} has no wheel for {wanted} that the lock allows; a "
                               "bundle carries no source distributions",
                               hint="Take a version that has one, or leave this Python version or platform out.")
        files.append(known[best])
    return files


def _file(wheel: Mapping[str, Any]) -> _File | None:
    url = str(wheel.get("url") or wheel.get("path") or "")
    name = str(wheel.get("name") or unquote(urlsplit(url).path.rpartition("/")[2]))
    sha256 = (wheel.get("hashes") or {}).get("sha256")
    return _File(name, url, sha256) if isinstance(sha256, str) and "/" not in name else None


def _fetch(file: _File, destination: Path, session: requests.Session, index: IndexSettings, say: Progress) -> Path:
    path = destination / file.name
    if path.is_file() and digest_file(path)[0] == f"sha256:{file.sha256}":
        return path
    parts = urlsplit(file.url)
    if index.offline and parts.scheme in ("http", "https"):
        raise NotReady(f"offline, and {file.name} is not at hand", hint="Go online once.")
    say(f"fetching {file.name}")
    temporary = path.with_name(f".{file.name}.{os.getpid()}")
    try:
        if parts.scheme in ("http", "https"):
            _download(file, temporary, session)
        else:
            shutil.copyfile(url2pathname(unquote(parts.path)), temporary)
        found = digest_file(temporary)[0]
        if found != f"sha256:{file.sha256}":
            raise InvalidInput(f"{file.name} has the digest {found}, which is not the one in the lock",
                               hint="The file was changed on the index or on the way; nothing was kept.")
        temporary.replace(path)
    except OSError as error:
        raise InvalidInput(f"{file.name} cannot be copied: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _download(file: _File, target_file: Path, session: requests.Session) -> None:
    """Download with bounded size and time; a broken connection is tried again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            # Said once more, because requests lets REQUESTS_CA_BUNDLE win over what the session says.
            with session.get(file.url, stream=True, timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                             verify=session.verify) as response:
                if response.status_code != 200:
                    raise Retryable(f"{file.name}: the index answered {response.status_code}",
                                    hint="Check FUSEML_INDEX_URL and its credentials.")
                _write(response.iter_content(BUFFER), target_file, file.name)
            return
        except requests.RequestException as error:
            if attempt == _ATTEMPTS:
                raise Retryable(f"{file.name} could not be fetched: {type(error).__name__}",
                                hint="Check FUSEML_INDEX_URL, FUSEML_PROXY and FUSEML_CA_BUNDLE.") from None
        except PluginError:
            if attempt == _ATTEMPTS:
                raise


def _write(blocks: Iterable[bytes], path: Path, name: str) -> None:
    size = 0
    with path.open("wb") as output:
        for block in blocks:
            size += len(block)
            if size > MAX_LAYER["vendored"]:
                raise InvalidInput(f"{name} has more than {MAX_LAYER['vendored']} bytes, which no bundle carries")
            output.write(block)


def _share_credentials(session: requests.Session, index: IndexSettings) -> None:
    """User name and password of the index go to the index's own host only."""
    url = index.index_url or os.environ.get("UV_DEFAULT_INDEX", "") or os.environ.get("UV_INDEX_URL", "")
    parts = urlsplit(url)
    if not parts.username:
        return
    own, user, password = parts.hostname, unquote(parts.username), unquote(parts.password or "")

    def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if urlsplit(request.url or "").hostname == own:
            requests.auth.HTTPBasicAuth(user, password)(request)
        return request

    session.auth = authenticate

