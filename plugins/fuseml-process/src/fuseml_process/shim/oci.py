"""Fetching the contents of a runnable from an OCI registry: small, and every byte verified."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from fuseml_process.shim.failures import StepFailed
from fuseml_sdk.archives import unpack
from fuseml_sdk.errors import PluginError

_URI = re.compile(r"^oci://(?P<host>[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?P<port>:\d+)?/"
                  r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)@(?P<digest>sha256:[0-9a-f]{64})$")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.fuseml.runnable.config.v1+json"
FILES_TYPE = "application/vnd.fuseml.runnable.files.v1.tar"
_MANIFEST_LIMIT, _CONFIG_LIMIT, _LAYER_LIMIT = 4 << 20, 4 << 20, 16 << 30
_BUFFER, _TIMEOUT = 1 << 20, 60.0


def fetch_runnable(uri: str, cache: Path, headers: Mapping[str, str]) -> Path:
    """Return the directory with the contents of a runnable, fetched once and kept.

    Args:
        uri: `oci://host[:port]/repository@sha256:…`; plain HTTP for loopback hosts only.
        cache: Directory of all cached contents; concurrent callers are safe.
        headers: Credentials for the registry; never sent to another host.

    Raises:
        StepFailed: The registry does not answer, has no such runnable, or sends other bytes than the digest names.
    """
    match = _URI.match(uri)
    if not match:
        raise StepFailed("Staging", f"{uri} is not of the form oci://host/repository@sha256:<64 hex>")
    target = cache / match["digest"].removeprefix("sha256:")
    if target.is_dir():
        os.utime(target)
        return target
    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
    try:
        _fetch(match, headers, temporary)
        try:
            (temporary / "contents").rename(target)
        except OSError:
            if not target.is_dir():  # else somebody was faster
                raise
    except urllib.error.HTTPError as error:
        error.close()
        raise StepFailed("Staging", f"{uri}: the registry answered {error.code} {error.reason}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepFailed("Staging", f"{uri} could not be fetched: {error}") from None
    except PluginError as error:
        raise StepFailed("Staging", f"{uri}: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _fetch(match: re.Match[str], headers: Mapping[str, str], place: Path) -> None:
    scheme = "http" if match["host"] in _LOOPBACK else "https"
    base = f"{scheme}://{match['host']}{match['port'] or ''}/v2/{match['name']}"
    raw = _small(f"{base}/manifests/{match['digest']}", match["digest"], None, _MANIFEST_LIMIT, headers)
    manifest: dict[str, Any] = json.loads(raw)
    contents = place / "contents"
    for layer in manifest.get("layers", []):
        if layer["mediaType"] == FILES_TYPE:
            blob = place / "layer.tar"
            with blob.open("wb") as output:
                _blob(f"{base}/blobs/{layer['digest']}", layer["digest"], layer["size"], _LAYER_LIMIT, headers, output)
            unpack(blob, contents)
    contents.mkdir(exist_ok=True)
    config = manifest["config"]
    if config["mediaType"] == CONFIG_TYPE:
        data = _small(f"{base}/blobs/{config['digest']}", config["digest"], config["size"], _CONFIG_LIMIT, headers)
        (contents / "runnable.json").write_bytes(data)


def _small(url: str, digest: str, size: int | None, limit: int, headers: Mapping[str, str]) -> bytes:
    with tempfile.SpooledTemporaryFile(max_size=_MANIFEST_LIMIT) as buffer:
        _blob(url, digest, size, limit, headers, buffer)
        buffer.seek(0)
        return buffer.read()


def _blob(url: str, digest: str, size: int | None, limit: int, headers: Mapping[str, str],
          output: IO[bytes]) -> None:
    """Copy a blob while hashing it; nothing beyond the announced size is read."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{digest!r} is not a digest")
    cap = limit if size is None else min(size, limit)
    request = urllib.request.Request(url, headers={"Accept": _MANIFEST_TYPE})  # noqa: S310 - scheme chosen above
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if url.startswith("http://") else []))
    hasher, total = hashlib.sha256(), 0
    with opener.open(request, timeout=_TIMEOUT) as answer:
        while block := answer.read(_BUFFER):
            total += len(block)
            if total > cap:
                raise ValueError(f"{digest[:19]} is larger than announced or allowed")
            hasher.update(block)
            output.write(block)
    if (size is not None and total != size) or f"sha256:{hasher.hexdigest()}" != digest:
        raise ValueError(f"the registry sent other bytes than {digest[:19]} names")
