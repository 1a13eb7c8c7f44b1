"""The files that a plugin process needs: what it may read, change and open as a device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_core.host.components import Component
from fuseml_sdk.permissions import Permission

#: Programs, libraries and data that every user of the machine may read.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store")
#: Those parts of /etc that programs need and that hold no secret, whoever the server runs as.
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "gai.conf", "gitconfig",
    "group", "host.conf", "hostname", "hosts", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "machine-id", "magic", "mailcap",
    "mime.types", "networks", "nsswitch.conf", "os-release", "passwd", "pip.conf", "pki/ca-trust", "pki/tls/cert.pem",
    "pki/tls/certs", "pki/tls/openssl.cnf", "protocols", "resolv.conf", "services", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "terminfo", "timezone", "uv", "xdg",
)
#: What the kernel tells; environments and memory of other processes are kept by other means.
_KERNEL = ("/proc", "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm", "/run/systemd/resolve")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
#: Variables that name files or folders which programs read when the network may be used.
_NAMED = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
          "PIP_CONFIG_FILE", "UV_CONFIG_FILE", "FUSEML_CA_BUNDLE")
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Files:
    """What a process may open.

    Attributes:
        read: Files and folders to read, and to run programs of.
        write: Folders to change.
        devices: Device files.
        refused: Permissions for files that are not given, with the reason.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    devices: tuple[Path, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


def files_of(component: Component, permissions: Iterable[Permission], environ: Mapping[str, str],
             protected: tuple[Path, ...], own: tuple[Path, ...] = ()) -> Files:
    """Decide which files a component gets.

    Args:
        component: What runs.
        permissions: What its extension declares.
        environ: The server's variables.
        protected: Folders of the server; no permission and no variable opens them or what contains them.
        own: Folders that the host made for it, to write to.

    Returns:
        Existing paths, symbolic links as they are named and what they lead to.
    """
    # Debian keeps the `sitecustomize` of its interpreters in /etc/python3.x.
    etc = [*(Path("/etc", name) for name in _ETC), *Path("/etc").glob("python3*")]
    read = [*map(Path, _SYSTEM), *etc, *map(Path, _KERNEL), *_interpreter(component.python),
            *component.readable, *_search_path(environ, protected)]
    write, refused, forms = [component.state_dir, *own], {}, set()
    for permission in permissions:
        forms.add(permission.kind.form)
        if permission.kind.form.startswith("filesystem:"):
            path = Path(permission.argument)
            if touches(path, protected):
                refused[permission.name] = "the server keeps its own files there"
            else:
                (write if permission.kind.form.startswith("filesystem:write") else read).append(path)
    if forms & {"network", "network:PORT", "kubernetes"}:
        named = [Path(environ[name]) for name in _NAMED if environ.get(name)]
        # The server's own variables name them; a folder, though, could hold more than certificates.
        read += [path for path in named if not path.is_dir() or not touches(path, protected)]
    if "kubernetes" in forms:
        read += [*kubeconfig(environ), _SERVICE_ACCOUNT]
    if "shared-memory" in forms:
        write.append(Path("/dev/shm"))  # noqa: S108  # a permission for exactly this
    return Files(_there(read), _there(write), _there(map(Path, _DEVICES)), refused)


def kubeconfig(environ: Mapping[str, str]) -> list[Path]:
    """The files that configure access to Kubernetes, as kubectl finds them."""
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(":") if part]
    return named or [Path(environ.get("HOME") or "/nonexistent") / ".kube" / "config"]


def touches(path: Path, protected: Iterable[Path]) -> bool:
    """Whether a path lies in a protected folder, contains one, or leads there by /proc or a link."""
    for mine in {path, path.resolve()}:
        for theirs in protected:
            for other in {theirs, theirs.resolve()}:
                if mine == other or mine in other.parents or other in mine.parents:
                    return True
    real = path.resolve()
    return real == Path("/") or Path("/proc") in (real, *real.parents)


def _interpreter(python: Path | None) -> list[Path]:
    """The environment, and the installation of Python that it stands on."""
    if python is None:
        return [Path(path) for path in {*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix} if path]
    environment = python.parent.parent
    found = [environment]
    settings = environment / "pyvenv.cfg"
    if settings.is_file():
        for line in settings.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                found.append(Path(value.strip()).parent)
    return [*found, python.resolve().parent.parent]


def _search_path(environ: Mapping[str, str], protected: tuple[Path, ...]) -> list[Path]:
    """Folders of programs; never one that contains the home folder of a person or of the server."""
    homes = (*protected, Path(environ["HOME"])) if environ.get("HOME") else protected
    found = [Path(part) for part in environ.get("PATH", "").split(":") if part.startswith("/")]
    return [path for path in found if not any(path == home or path in home.parents for home in homes)]


def _there(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those that exist, each once; links are named twice, since access is granted to what they lead to."""
    # os.path: what lies behind a closed folder does not exist, whereas Path would raise before Python 3.14.
    return tuple(dict.fromkeys(path for path in paths if path != Path("/") and os.path.exists(path)))  # noqa: PTH110
