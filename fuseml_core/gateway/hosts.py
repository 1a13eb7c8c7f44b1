"""Which names this server answers to: the defence against DNS rebinding and foreign web pages on TCP."""

from __future__ import annotations

from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class HostPolicy:
    """Accepts loopback names and the configured domain with everything below it.

    Args:
        domain: `FUSEML_DOMAIN`, with or without a port; empty for none.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain.partition(":")[0].lower()

    def allows(self, host: str) -> bool:
        """Whether a Host header (with or without a port) names this server."""
        name = host_name(host)
        return name in LOOPBACK or (bool(self.domain) and (name == self.domain or self.prefix(host) != ""))

    def allows_origin(self, method: str, origin: str) -> bool:
        """Whether a request that a web page makes may change anything: pages of other sites may not."""
        if not origin or method in SAFE_METHODS:
            return True
        return self.allows(urlsplit(origin).netloc)

    def prefix(self, host: str) -> str:
        """Return what stands before the domain in a Host header: `<service>.<project>`, or the empty string."""
        name = host_name(host)
        if not self.domain or not name.endswith(f".{self.domain}"):
            return ""
        return name[: -len(self.domain) - 1]


def host_name(host: str) -> str:
    """Return the name in a Host header: lower case, without port, brackets and closing dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
