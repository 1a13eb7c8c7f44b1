"""User names and passwords for registries, from where Docker, Podman and the environment keep them.

In this order: `FUSEML_REGISTRY_USERNAME` and `_PASSWORD` for the registry that `FUSEML_REGISTRY_HOST` names; the file
`$REGISTRY_AUTH_FILE`; Docker's `config.json`; Podman's `auth.json`. In each file the entry with the most specific
repository prefix wins (containers-auth.json(5)).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseml_oci.credential_programs import NO_CREDENTIALS, ask_program
from fuseml_sdk.errors import InvalidInput, NotFound

#: What Docker Hub is called in references, and what it is called in files of credentials.
DOCKER_HUB, DOCKER_HUB_KEY = ("docker.io", "registry-1.docker.io", "index.docker.io"), "https://index.docker.io/v1/"
#: User name that stands for an identity token in credential programs.
TOKEN_USER = "<token>"  # noqa: S105 - the name of a user
#: Largest file of credentials that is read.
_MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password or access token, or an identity token; secrets never show in `repr`.

    Attributes:
        username: Empty with an identity token.
        password: Password or access token.
        identity_token: OAuth 2 refresh token, which the registry's token server exchanges for access tokens.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


def find_credentials(registry: str, environ: Mapping[str, str] | None = None,
                     repository: str = "") -> Credentials | None:
    """Look for the credentials of a registry, or of one of its repositories.

    Args:
        registry: `host[:port]` as in references.
        environ: Variables to read; the process environment by default.
        repository: Name within the registry; files may have entries for parts of a registry.

    Returns:
        None if nothing is known for this host and port.

    Raises:
        InvalidInput: A file or variable is damaged; the message names it, never its contents.
        NotReady: A credential program does not answer.
    """
    env = os.environ if environ is None else environ
    found = _from_environment(registry, env)
    for path in () if found else files(env):
        found = _from_file(path, registry, repository, env)
        if found:
            break
    return found


def files(env: Mapping[str, str]) -> list[Path]:
    """Return the files of credentials in the order in which they are read, whether they are there or not."""
    home = Path(env.get("HOME") or Path.home())
    paths = [docker_file(env)]
    if own := env.get("REGISTRY_AUTH_FILE"):
        return [Path(own), *paths]
    if runtime := env.get("XDG_RUNTIME_DIR"):
        paths.append(Path(runtime) / "containers" / "auth.json")
    paths.append(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json")
    return paths


def docker_file(env: Mapping[str, str]) -> Path:
    """Return the path of Docker's configuration, which is also where logging in writes to."""
    folder = env.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path(env.get("HOME") or Path.home()) / ".docker") / "config.json"


def read_file(path: Path) -> dict[str, Any]:
    """Return the contents of a file of credentials; empty if it is not there.

    Raises:
        InvalidInput: It cannot be read or is no JSON object; nothing of it is quoted.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    try:
        document = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or len(data) > _MAX_FILE:
        raise InvalidInput(f"{path} is not a file of credentials: it is not a JSON object")
    for key, kind in (("auths", dict), ("credHelpers", dict), ("credsStore", str)):
        if not isinstance(document.get(key) or kind(), kind):
            raise InvalidInput(f"{path} is not a file of credentials: {key} cannot be read")
    return document


def keys(registry: str, repository: str = "") -> Iterator[str]:
    """Yield the names under which files may keep credentials, most specific first."""
    parts = repository.split("/") if repository else []
    hosts = DOCKER_HUB[:1] if registry in DOCKER_HUB else (registry,)
    for length in range(len(parts), 0, -1):
        for host in hosts:
            yield "/".join((host, *parts[:length]))
    if registry in DOCKER_HUB:
        yield from (DOCKER_HUB_KEY, *DOCKER_HUB)
    for host in (registry,):
        yield from (host, f"https://{host}", f"https://{host}/", f"http://{host}", f"http://{host}/",
                    f"https://{host}/v1/", f"https://{host}/v2/")


def server_name(registry: str) -> str:
    """Return what Docker calls a registry in files and towards credential programs."""
    return DOCKER_HUB_KEY if registry in DOCKER_HUB else registry


def program_for(document: Mapping[str, Any], registry: str) -> str:
    """Return the credential program that a file names for a registry (`credHelpers`) or for all (`credsStore`)."""
    programs = document.get("credHelpers") or {}
    for name in (registry, server_name(registry), *(DOCKER_HUB if registry in DOCKER_HUB else ())):
        if isinstance(programs.get(name), str) and programs[name]:
            return str(programs[name])
    return str(document.get("credsStore") or "")


def _from_environment(registry: str, env: Mapping[str, str]) -> Credentials | None:
    username, password = env.get("FUSEML_REGISTRY_USERNAME", ""), env.get("FUSEML_REGISTRY_PASSWORD", "")
    if not username and not password:
        return None
    host = env.get("FUSEML_REGISTRY_HOST", "")
    if not host or not username or not password:
        raise InvalidInput("FUSEML_REGISTRY_HOST, FUSEML_REGISTRY_USERNAME, FUSEML_REGISTRY_PASSWORD need each other",
                           hint="Set FUSEML_REGISTRY_HOST to the host[:port] that may see the password.")
    return Credentials(username, password) if host.lower() == registry.lower() else None


def _from_file(path: Path, registry: str, repository: str, env: Mapping[str, str]) -> Credentials | None:
    document = read_file(path)
    specific = (document.get("credHelpers") or {}) and program_for({**document, "credsStore": ""}, registry)
    if specific:
        return _from_program(str(specific), registry, env, required=True)
    auths = document.get("auths") or {}
    for key in keys(registry, repository):
        try:
            found = _credentials(auths.get(key) or {})
        except (ValueError, AttributeError, TypeError, binascii.Error):
            raise InvalidInput(f"{path} is not a file of credentials: auths cannot be read") from None
        if found:
            return found
    everywhere = str(document.get("credsStore") or "")
    return _from_program(everywhere, registry, env, required=False) if everywhere else None


def _from_program(program: str, registry: str, env: Mapping[str, str], *, required: bool) -> Credentials | None:
    try:
        answer = ask_program(program, "get", server_name(registry), env)
    except NotFound:
        if required:
            raise
        return None  # `credsStore` of a desktop that is not there, as in a container with a copied configuration
    if answer == NO_CREDENTIALS:
        return None
    username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    if not secret:
        return None
    return Credentials("", identity_token=secret) if username == TOKEN_USER else Credentials(username, secret)


def _credentials(entry: Mapping[str, str]) -> Credentials | None:
    username, password = entry.get("username") or "", entry.get("password") or ""
    if entry.get("auth"):
        username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError
        password = password.rstrip("\0")
    if token := entry.get("identitytoken"):
        return Credentials("", identity_token=str(token))
    return Credentials(username, password) if username and password else None
