"""Addresses of pages, below wherever the application is mounted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

#: Host and port as they may stand in a command that somebody copies.
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](?::\d{1,5})?")
_FOREIGN = re.compile(r"(?:https?://[^\s/]|mailto:[^\s@]+@)", re.IGNORECASE)
#: Repository that the server's own short names stand for: `mlflow` is `extensions/mlflow`.
EMBEDDED = "extensions/"


@dataclass(frozen=True, slots=True)
class Links:
    """Makes addresses for one request.

    Attributes:
        base: Path where the application is mounted, without a slash at the end.
        origin: Scheme and host, such as `http://127.0.0.1:8765`.
        embedded: Whether a FuseML server has this registry built in, so that short names lead here.
    """

    base: str
    origin: str
    embedded: bool

    def search(self) -> str:
        """The list of packages."""
        return f"{self.base}/"

    def static(self, name: str) -> str:
        """A style sheet or script, by its name with fingerprint."""
        return f"{self.base}/static/{name}"

    def package(self, repository: str) -> str:
        """A package."""
        return f"{self.base}/packages/{quote(repository)}"

    def version(self, repository: str, version: str, part: str = "") -> str:
        """A version of a package, or a part of it such as `icon`."""
        return f"{self.package(repository)}/-/{quote(version)}" + (f"/{part}" if part else "")

    def part(self, repository: str, part: str) -> str:
        """Something about a package that belongs to no version, such as `versions`."""
        return f"{self.package(repository)}/-/{part}"

    def api(self, path: str) -> str:
        """The JSON form of a page."""
        return f"{self.base}/api/{path}"

    def absolute(self, path: str) -> str:
        """An address with scheme and host."""
        return f"{self.origin}{path}"

    def reference(self, repository: str, version: str) -> str:
        """What `fuseml extension install` takes."""
        if self.embedded and repository.startswith(EMBEDDED) and "/" not in repository.removeprefix(EMBEDDED):
            name = repository.removeprefix(EMBEDDED)
            return f"{name}:{version}" if version else name
        host = self.origin.partition("://")[2]
        tag = f":{version}" if version else ""
        return f"oci://{host if _HOST.fullmatch(host) else 'REGISTRY'}/{repository}{tag}"


def is_foreign(url: str) -> bool:
    """Whether a link of a bundle may be followed: to the web or by mail; `javascript:` and the like are only shown."""
    return bool(_FOREIGN.match(url)) and not re.search(r"[\s<>\"'\\]", url)
