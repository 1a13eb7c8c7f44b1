"""Where a service listens: a Unix socket or a TCP address of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from fuseml_core.domain.errors import Invalid


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that speaks HTTP/1.1.

    Attributes:
        path: Path of a Unix socket; empty for TCP.
        host, port: TCP address; empty and 0 for a Unix socket.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"http://{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read `unix:<path>` or `http://<host>:<port>`.

    Raises:
        Invalid: It is neither.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("///"):
            path = path[2:]
        if path.startswith("/"):
            return Endpoint(path=path)
    elif text.startswith("http://"):
        parts = urlsplit(text)
        if parts.hostname:
            return Endpoint(host=parts.hostname, port=parts.port or 80)
    raise Invalid(f"The endpoint {text!r} is neither `unix:/path` nor `http://host:port`")
