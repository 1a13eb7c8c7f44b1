"""References to OCI artifacts: `oci://host[:port]/namespace/name[:tag][@digest]`, parsed strictly.

Grammar: distribution-spec, "Pulling manifests". oras-py's own parser accepts nearly everything and guesses the
registry; this one guesses nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from fuseml_oci.digests import split_digest
from fuseml_sdk.errors import InvalidInput

SCHEME = "oci://"
#: Longest repository name, and the longest tag (distribution-spec).
MAX_NAME, MAX_TAG = 255, 128
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
                   re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in a registry. `tag` and `digest` are empty when not given.

    Attributes:
        registry: `host` or `host:port`, lower case; an IPv6 address in brackets.
        repository: Name within the registry, such as `extensions/mlflow`.
        tag: Movable name of a manifest.
        digest: `sha256:…` or `sha512:…`; wins over the tag.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def locator(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag, else empty."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> Reference:
        """Return the same place pinned to a digest."""
        split_digest(digest)
        return replace(self, digest=digest)

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository at another tag, without a digest."""
        return replace(self, tag=check_tag(tag), digest="")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.registry}/{self.repository}{tag}{digest}"


def parse(text: str) -> Reference:
    """Read a reference. The scheme may be left out, the registry may not.

    Raises:
        InvalidInput: Some part is not as the specification has it; the message says which and why.
    """
    rest = text.removeprefix(SCHEME)
    if "://" in rest:
        raise InvalidInput(f"{text!r} is not an OCI reference: the scheme must be oci://")
    registry, slash, path = rest.partition("/")
    if not slash or not path:
        raise InvalidInput(f"{text!r} names no repository", hint="write oci://host[:port]/namespace/name:tag")
    if text == rest and not (set(".:[") & set(registry) or registry == "localhost"):
        raise InvalidInput(f"{text!r} names no registry: {registry!r} has neither a dot nor a port",
                           hint="write oci://host[:port]/namespace/name:tag")
    path, at, digest = path.partition("@")
    if at:
        split_digest(digest)
    repository, colon, tag = path.partition(":")
    if colon:
        check_tag(tag)
    return Reference(check_registry(registry), check_repository(repository), tag, digest)


def check_repository(name: str) -> str:
    """Return the name if it is a repository name.

    Raises:
        InvalidInput: It is not.
    """
    if len(name) > MAX_NAME:
        raise InvalidInput(f"repository name {name[:60]!r}… is longer than {MAX_NAME} characters")
    if not _REPOSITORY.fullmatch(name):
        raise InvalidInput(f"{name!r} is not a repository name", hint="use lower-case letters and digits, separated "
                           "by single `.`, `_`, `__`, hyphens, and `/` between components")
    return name


def is_repository(name: str) -> bool:
    """Tell whether a text is a repository name."""
    return len(name) <= MAX_NAME and _REPOSITORY.fullmatch(name) is not None


def is_tag(text: str) -> bool:
    """Tell whether a text is a tag."""
    return _TAG.fullmatch(text) is not None


def check_tag(tag: str) -> str:
    """Return the tag if it is one.

    Raises:
        InvalidInput: It is not.
    """
    if not _TAG.fullmatch(tag):
        raise InvalidInput(f"{tag[:MAX_TAG + 1]!r} is not a tag", hint="use at most 128 letters, digits, `_`, `.` and "
                           "`-`, beginning with a letter, digit or `_`; `+` is not allowed")
    return tag


def check_registry(registry: str) -> str:
    """Return `host[:port]` in lower case if it is one. User names, paths and spaces are refused.

    Raises:
        InvalidInput: It is not.
    """
    host, port = split_host(registry)
    if ":" in host:
        _check_ipv6(host, registry)
    elif len(host) > 253 or not _HOST.fullmatch(host):
        raise InvalidInput(f"{registry!r} is not a registry: write host or host:port")
    shown = f"[{host}]" if ":" in host else host
    return (f"{shown}:{port}" if port is not None else shown).lower()


def split_host(registry: str) -> tuple[str, int | None]:
    """Take `host[:port]` apart; an IPv6 address loses its brackets.

    Raises:
        InvalidInput: The port is not a number from 1 to 65535, or a bracket is missing.
    """
    if registry.startswith("["):
        host, bracket, rest = registry[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise InvalidInput(f"{registry!r} is not a registry: write [IPv6 address] or [IPv6 address]:port")
        port, colon = rest[1:], rest[:1]
    else:
        host, colon, port = registry.partition(":")
    if not colon:
        return host, None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise InvalidInput(f"{registry!r} is not a registry: the port must be a number from 1 to 65535")
    return host, int(port)


def _check_ipv6(host: str, registry: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise InvalidInput(f"{registry!r} is not a registry: {host!r} is not an IPv6 address") from None
