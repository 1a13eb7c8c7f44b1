"""Origins (scheme, host, port): who may see credentials and where a server may send a client (RFC 6454)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from fuseml_oci.reference import split_host
from fuseml_sdk.errors import Permanent

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host in lower case without brackets, and port."""

    scheme: str
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether requests stay on this machine."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


def origin_of(url: str) -> Origin:
    """Return the origin of an http(s) URL.

    Raises:
        Permanent: It is not one, or it carries a user name; servers send such URLs by mistake or malice.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.scheme not in _PORTS or not host or parts.username is not None:
        raise Permanent(f"{url[:200]!r} is not an http or https URL that can be used")
    return Origin(parts.scheme, host.lower(), port or _PORTS[parts.scheme])


def joined(base: str, location: str) -> str:
    """Resolve what a server gave as Location or Link against the URL that was asked.

    Raises:
        Permanent: It cannot be read as a URL.
    """
    try:
        return urljoin(base, location)
    except ValueError:
        raise Permanent(f"{base.partition('?')[0]}: the server leads to {location[:200]!r}, which is no URL") from None


def registry_origin(registry: str, *, insecure: bool | None) -> Origin:
    """Return the origin of `host[:port]`.

    Args:
        registry: Checked by `reference.check_registry`.
        insecure: True for plain http, False for https, None for http on loopback hosts only.
    """
    host, port = split_host(registry)
    plain = is_loopback(host) if insecure is None else insecure
    scheme = "http" if plain else "https"
    return Origin(scheme, host.lower(), port or _PORTS[scheme])


def is_loopback(host: str) -> bool:
    """Whether a host name or address certainly means this machine."""
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def check_redirect(source: Origin, target: Origin) -> None:
    """Refuse redirects that weaken transport security or reach into this machine or a cloud's metadata service.

    Raises:
        Permanent: The redirect must not be followed.
    """
    if source.scheme == "https" and target.scheme != "https":
        raise Permanent(f"{source} redirects to {target}, which is not encrypted")
    address = _address(target.host)
    if target.loopback and not source.loopback:
        raise Permanent(f"{source} redirects to {target}, which is this machine")
    if address is not None and (address.is_link_local or address.is_unspecified):
        raise Permanent(f"{source} redirects to {target}, which is a link-local address")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
