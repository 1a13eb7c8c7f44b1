"""The permissions that an extension can declare: a closed vocabulary, and what stands behind each.

Everything that is not declared is refused where the server's machine can refuse it; a manifest that names something
else is refused before anything is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fuseml_sdk.errors import InvalidInput

#: What keeps an extension from doing what it did not declare. `none`: nothing, it is only shown.
NETWORK, PORTS, FILES, SYSTEM_CALLS, SETTINGS, NONE = "network", "ports", "files", "system calls", "settings", "none"


@dataclass(frozen=True)
class Kind:
    """A kind of permission.

    Attributes:
        form: How it is written in a manifest, such as `network:PORT`.
        allows: What a component may do that declares it, and may not otherwise.
        by: What enforces that: `network`, `ports`, `files`, `system calls`, `settings` or `none`.
        why_not: For `none`: why nothing enforces it.
    """

    form: str
    allows: str
    by: str
    why_not: str = ""


_KINDS = (
    Kind("network", "Open connections to other machines and to this one, by TCP and UDP. It gets the package index, "
         "the proxy and the certificate authorities that the server is configured with.", NETWORK),
    Kind("network:PORT", "Open TCP connections to this port, and ask name servers. Declare it once for each port.",
         PORTS),
    Kind("kubernetes", "Talk to a Kubernetes cluster: read the kubeconfig or the service account's token, and use the "
         "network.", FILES),
    Kind("unix-sockets", "Open Unix sockets that other programs listen on, such as a database's.", SYSTEM_CALLS),
    Kind("shared-memory", "Use named shared memory and semaphores (/dev/shm), as multiprocessing does, "
         "and memory, semaphores and messages of System V.", FILES),
    Kind("processes", "Start other programs, such as git.", NONE,
         "what a component starts is confined as it is itself, so nothing more is kept from it"),
    Kind("secrets:NAME", "Get the secret setting NAME, which `config_schema` marks `writeOnly`.", SETTINGS),
    Kind("filesystem:read:PATH", "Read this file or folder.", FILES),
    Kind("filesystem:write:PATH", "Read and change this file or folder.", FILES),
)
#: All kinds, by how they are written.
KINDS: Mapping[str, Kind] = {kind.form: kind for kind in _KINDS}
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Permission:
    """One declared permission.

    Attributes:
        name: As declared.
        kind: What it is.
        argument: Port, name of a setting or path; empty for kinds without one.
    """

    name: str
    kind: Kind
    argument: str = ""


def parse(name: str) -> Permission:
    """Understand the name of a permission.

    Args:
        name: As in the manifest, such as `network` or `filesystem:read:/srv/data`.

    Raises:
        InvalidInput: It is not in the vocabulary; the hint lists it.
    """
    if name in KINDS and not any(part.isupper() for part in name.split(":")):
        return Permission(name, KINDS[name])
    head, _, rest = name.partition(":")
    mode, _, path = rest.partition(":")
    if head == "network" and rest.isascii() and rest.isdigit() and 1 <= int(rest) <= 65535 and rest == str(int(rest)):
        return Permission(name, KINDS["network:PORT"], rest)
    if head == "secrets" and _SECRET.fullmatch(rest):
        return Permission(name, KINDS["secrets:NAME"], rest)
    if head == "filesystem" and mode in ("read", "write") and _is_plain(path):
        return Permission(name, KINDS[f"filesystem:{mode}:PATH"], path)
    raise InvalidInput(f"there is no permission {name!r}",
                       hint=f"There are {', '.join(KINDS)}; a PATH is absolute, without `..` and not `/` itself.")


def unknown(names: Iterable[str]) -> list[str]:
    """Those names that are not in the vocabulary."""
    found = []
    for name in names:
        try:
            parse(name)
        except InvalidInput:
            found.append(name)
    return found


def asked_for(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a manifest asks for: the declared permissions, and each secret setting of its components.

    A setting marked `writeOnly` is a declaration, so that it need not be written twice: it is listed as
    `secrets:NAME`, with its description for a reason unless the manifest gives one.

    Args:
        manifest: Of an extension, as JSON.

    Returns:
        `name` and `reason` of each, the declared ones first, each name once.
    """
    found = {str(entry["name"]): str(entry.get("reason") or "") for entry in manifest.get("permissions") or []}
    for name, about in secret_settings(manifest).items():
        found.setdefault(f"secrets:{name}", str(about.get("description") or "A secret setting of its own."))
    return [{"name": name, "reason": reason} for name, reason in found.items()]


def secret_settings(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The settings of a manifest that are marked `writeOnly`, by name."""
    schema = manifest.get("config_schema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return {str(name): about for name, about in (properties.items() if isinstance(properties, Mapping) else ())
            if isinstance(about, Mapping) and about.get("writeOnly") is True}


def _is_plain(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.root == "/" and str(pure) == path and ".." not in pure.parts and path != "/"
