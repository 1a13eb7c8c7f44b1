"""User names and passwords for registries, from where Docker keeps them (`auths` of config.json)."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_sdk.errors import InvalidInput

_DOCKER_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password or access token; the password never shows in `repr`."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def find_credentials(registry: str, environ: Mapping[str, str] | None = None) -> Credentials | None:
    """Look a registry up in `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.

    Args:
        registry: `host[:port]` as in references.
        environ: Variables to read; the process environment by default.

    Returns:
        None if the file or an entry for exactly this host and port is missing.

    Raises:
        InvalidInput: The file is damaged; the message names it, never its contents.
    """
    env = os.environ if environ is None else environ
    folder = env.get("DOCKER_CONFIG") or str(Path(env.get("HOME") or Path.home()) / ".docker")
    path = Path(folder) / "config.json"
    try:
        document = json.loads(path.read_bytes())
        auths = document.get("auths") or {}
        entry = _entry(auths, registry)
        return _credentials(entry) if entry else None
    except OSError:
        return None
    except (ValueError, AttributeError, TypeError, binascii.Error):
        raise InvalidInput(f"{path} is not a Docker configuration: auths cannot be read") from None


def _entry(auths: Mapping[str, Mapping[str, str]], registry: str) -> Mapping[str, str] | None:
    names = [registry, f"https://{registry}", f"https://{registry}/", f"http://{registry}"]
    if registry in ("docker.io", "registry-1.docker.io"):
        names.append(_DOCKER_HUB)
    return next((auths[name] for name in names if name in auths), None)


def _credentials(entry: Mapping[str, str]) -> Credentials | None:
    if entry.get("auth"):
        username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError
        return Credentials(username, password.rstrip("\0"))
    if entry.get("username") and entry.get("password"):
        return Credentials(entry["username"], entry["password"])
    return None
