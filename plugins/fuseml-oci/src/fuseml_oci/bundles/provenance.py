"""Where a bundle comes from: the predicate of an in-toto statement, by SLSA 1.0.

https://slsa.dev/spec/v1.0/provenance
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fuseml_oci.bundles.descriptor import WHEEL_FOLDERS, ExtensionDescriptor

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://fuseml.io/bundle/build/v1"
_GIT_SECONDS = 20.0


def predicate(descriptor: ExtensionDescriptor, *, source: Path | None = None, builder: str = "",
              finished: datetime | None = None, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Say what a bundle was built from, by whom and how.

    Args:
        descriptor: What its config blob says.
        source: Folder that it was built from; its git commit is named, if it has one.
        builder: URI of whoever vouches for the build; by default FuseML on somebody's machine.
        finished: When; now by default.
        parameters: What the build was told, such as `{"dev": true}`.

    Returns:
        The predicate. Nothing in it names the machine, its user or a folder.
    """
    commit = git_source(source) if source else {}
    dependencies = [commit] if commit else []
    dependencies += [{"name": layer.title, "digest": {"sha256": layer.digest.partition(":")[2]}}
                     for layer in descriptor.layers if layer.kind in WHEEL_FOLDERS]
    lock = next((file for file in descriptor.files if file.path == "requirements.lock"), None)
    if lock:
        dependencies.append({"name": lock.path, "digest": {"sha256": lock.digest.partition(":")[2]}})
    when = (finished or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"extension": descriptor.name, "version": descriptor.version, **(parameters or {})},
            "internalParameters": {},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": builder or "https://fuseml.io/bundle/builder/local",
                        "version": {"fuseml-oci": version("fuseml-oci"), "fuseml-sdk": version("fuseml-sdk")}},
            "metadata": {"finishedOn": when},
        },
    }


def statement(subject: str, digest: str, content: Mapping[str, Any], kind: str = PREDICATE) -> dict[str, Any]:
    """An in-toto statement (v1) about a bundle, for files; attached statements are made when they are attached.

    Args:
        subject: Reference or name of the bundle.
        digest: Of its manifest.
        content: The predicate.
        kind: Its type.
    """
    algorithm, _, value = digest.partition(":")
    return {"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": subject, "digest": {algorithm: value}}],
            "predicateType": kind, "predicate": dict(content)}


def git_source(folder: Path) -> dict[str, Any]:
    """The commit that a folder lies in, as a SLSA resource; empty if it lies in none.

    A folder with changes that are not committed is marked, because the commit alone does not give the same bundle.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    found: dict[str, Any] = {"digest": {"gitCommit": commit}}
    if remote := _git(folder, "config", "--get", "remote.origin.url"):
        found["uri"] = _without_secrets(remote)
    annotations: dict[str, Any] = {"path": _git(folder, "rev-parse", "--show-prefix").rstrip("/") or "."}
    if _git(folder, "status", "--porcelain", "--", "."):
        annotations["uncommitted"] = True
    return {**found, "annotations": annotations}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True,
                              timeout=_GIT_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_secrets(remote: str) -> str:
    """The address of a repository without user and password; a path is no address."""
    parts = urlsplit(remote)
    if parts.scheme in ("http", "https", "ssh", "git"):
        host = parts.hostname or ""
        return urlunsplit((f"git+{parts.scheme}", f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))
    if "@" in remote and ":" in remote and "/" not in remote.partition(":")[0]:
        host, _, path = remote.partition("@")[2].partition(":")
        return f"git+ssh://{host}/{path}"
    return ""
