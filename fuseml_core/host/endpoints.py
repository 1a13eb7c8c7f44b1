"""Where a plugin that somebody else runs is reached, and how connections to it are made."""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from fuseml_core.host.streams import Connect, TcpStream, UnixStream
from fuseml_sdk.errors import Permanent

#: A Unix socket address has room for 108 bytes on Linux (104 on macOS), the closing NUL included.
_SOCKET_PATH_LIMIT = 103
#: What RFC 6750 section 2.1 allows in a bearer token.
_TOKEN = re.compile(r"^[A-Za-z0-9._~+/-]+=*\Z")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w-]*)\}")
_PATH = re.compile(r"[!-~]*")
_FORMS = "Give unix:/absolute/path, http://host:port or https://host:port, without user, query or fragment."


@dataclass(frozen=True)
class Endpoint:
    """A place that answers HTTP.

    Attributes:
        text: As people wrote it.
        prefix: Comes before every path; empty or `/like/this`.
        connect: Makes a connection.
    """

    text: str
    prefix: str
    connect: Connect


def endpoint(address: str, *, extension: str, token: str = "", ca_bundle: str = "") -> Endpoint:
    """Read an address.

    Args:
        address: `unix:/path`, `http://host[:port][/prefix]` or `https://…`.
        extension: Whose address it is, for hints.
        token: What will be sent there; checked and not kept.
        ca_bundle: File with the certificate authorities for `https:`; empty takes those of the system.

    Raises:
        Permanent: It is none, a placeholder in it has no value, or the token may not travel there.
    """
    missing = _PLACEHOLDER.findall(address)
    if missing:
        raise Permanent(f"the address {address} needs the setting {missing[0]!r}",
                        hint=f"Set it with: fuseml extension configure {extension} {missing[0]}=VALUE")
    if token and not _TOKEN.match(token):
        raise Permanent(f"the token for {address} has characters that no bearer token has", hint="Set it again.")
    if address.startswith("unix:"):
        path = Path("/" + address.removeprefix("unix:").lstrip("/"))
        if not address.startswith("unix:/") or len(bytes(path)) > _SOCKET_PATH_LIMIT:
            raise Permanent(f"{address} is not the address of a socket of at most {_SOCKET_PATH_LIMIT} bytes",
                            hint=_FORMS)
        return Endpoint(address, "", partial(UnixStream, path))
    return _over_tcp(address, token, ca_bundle)


def _over_tcp(address: str, token: str, ca_bundle: str) -> Endpoint:
    parts = _split(address)
    host, port, prefix = _ascii(str(parts.hostname)), parts.port, parts.path.rstrip("/")
    if not host or not _PATH.fullmatch(prefix) or any(ord(each) <= 32 for each in address):
        raise Permanent(f"{address!r} is not an address that a plugin can have",
                        hint=f"Write other characters than ASCII in its path as %XX. {_FORMS}")
    if parts.scheme == "http":
        if token and not _is_loopback(host):
            raise Permanent(f"the token would travel to {address} for everybody to read",
                            hint="Use https, or leave the setting of the token empty.")
        return Endpoint(address, prefix, lambda seconds: TcpStream(http.client.HTTPConnection(host, port), seconds))
    try:
        context = ssl.create_default_context(cafile=ca_bundle or None)
    except (OSError, ssl.SSLError) as error:
        raise Permanent(f"the certificate authorities in {ca_bundle} cannot be read: {error}",
                        hint="Correct FUSEML_CA_BUNDLE.") from None
    return Endpoint(address, prefix, lambda seconds: TcpStream(
        http.client.HTTPSConnection(host, port, context=context), seconds))


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_good = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_good or (
            parts.query or parts.fragment):
        raise Permanent(f"{address} is not an address that a plugin can have", hint=_FORMS)
    if "@" in parts.netloc:
        # Not repeated: it may hold a password.
        raise Permanent("the address of the plugin holds a user", hint=f"Use a token. {_FORMS}")
    return parts


def _ascii(host: str) -> str:
    """The name as it is looked up (RFC 3490); empty if it is none."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
