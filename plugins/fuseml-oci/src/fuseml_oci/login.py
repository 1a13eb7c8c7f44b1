"""Logging in to a registry and out again: verified first, then kept where Docker keeps it."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_oci.client import RegistryClient
from fuseml_oci.credential_programs import ask_program
from fuseml_oci.credentials import DOCKER_HUB, Credentials, docker_file, keys, program_for, read_file, server_name
from fuseml_oci.reference import check_registry
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, PluginError

#: Connects to a registry with credentials.
Connect = Callable[[str, Credentials], RegistryClient]


@dataclass(frozen=True, slots=True)
class Login:
    """What became of a login.

    Attributes:
        place: Path of the file, or name of the program that keeps the credentials.
        checked: False if the registry lets everybody in without asking, so that nobody knows whether they are right.
    """

    place: str
    checked: bool


def log_in(registry: str, credentials: Credentials, connect: Connect,
           environ: Mapping[str, str] | None = None) -> Login:
    """Check credentials against a registry and keep them.

    Args:
        registry: `host[:port]`.
        credentials: User name and password.
        connect: How to reach the registry.
        environ: Variables that say where Docker's configuration is; the process environment by default.

    Returns:
        Where they were put, and whether the registry wanted to see them.

    Raises:
        InvalidInput: The registry refuses them, or the configuration is damaged; nothing is kept.
        Retryable: The registry does not answer.
    """
    env, name = os.environ if environ is None else environ, check_registry(registry)
    with connect(name, credentials) as client:
        _verify(client, name)
        checked = client.asked_for_credentials
    path = docker_file(env)
    with _locked(path):
        document = read_file(path)
        if program := program_for(document, name):
            ask_program(program, "store", json.dumps({"ServerURL": server_name(name), "Username": credentials.username,
                                                      "Secret": credentials.password}), env)
            return Login(f"docker-credential-{program}", checked)
        pair = f"{credentials.username}:{credentials.password}".encode()
        entries = {k: v for k, v in (document.get("auths") or {}).items() if k not in _own_keys(name)}
        entries[server_name(name)] = {"auth": base64.b64encode(pair).decode()}
        _write(path, {**document, "auths": entries})
    return Login(str(path), checked)


def log_out(registry: str, environ: Mapping[str, str] | None = None) -> bool:
    """Forget the credentials of a registry.

    Returns:
        False if there were none.

    Raises:
        InvalidInput: The configuration is damaged or cannot be written.
    """
    env, name = os.environ if environ is None else environ, check_registry(registry)
    path = docker_file(env)
    if not path.exists():
        return False
    with _locked(path):
        document, forgotten = read_file(path), False
        if program := program_for(document, name):
            forgotten = bool(ask_program(program, "get", server_name(name), env))
            ask_program(program, "erase", server_name(name), env)
        entries = document.get("auths") or {}
        kept = {key: value for key, value in entries.items() if key not in _own_keys(name)}
        if len(kept) < len(entries):
            forgotten = True
            _write(path, {**document, "auths": kept})
    return forgotten


def _own_keys(registry: str) -> frozenset[str]:
    return frozenset({*keys(registry), *(DOCKER_HUB if registry in DOCKER_HUB else ())})


def _verify(client: RegistryClient, registry: str) -> None:
    try:
        client.ping()
    except PluginError as error:
        if error.details.get("status") in (401, 403):
            raise InvalidInput(f"{registry} refuses this user name and password", hint="Nothing was kept.") from None
        if error.details.get("status") == 404:
            raise InvalidInput(f"{registry} answers, but is not an OCI registry") from None
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one program at a time change the file; Docker itself takes no lock."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"{path.parent} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replace the file, readable by its owner only; a link to it, as some people have, stays one."""
    data = json.dumps(document, indent="\t", ensure_ascii=False).encode() + b"\n"
    try:
        write_durably(path.resolve(), data, mode=0o600)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
