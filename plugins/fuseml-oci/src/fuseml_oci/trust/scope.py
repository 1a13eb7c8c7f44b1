"""What a rule of the policy is about: globs over `host[:port]/repository`."""

from __future__ import annotations

import re
from functools import lru_cache

from fuseml_oci.reference import Reference, split_host
from fuseml_sdk.errors import InvalidInput

#: How the registry of this server is called in rules, whatever its address is.
EMBEDDED = "embedded"
MAX_GLOB = 512
_SEGMENT = re.compile(r"[a-z0-9._\[\]*:-]+")


def subject_of(reference: Reference, embedded: str) -> str:
    """What the globs of rules are matched with: `embedded/<repository>` or `<host[:port]>/<repository>`.

    Args:
        reference: Of the bundle.
        embedded: `host:port` of the embedded registry; empty if there is none.
    """
    registry = reference.registry
    if is_embedded(registry, embedded):
        registry = EMBEDDED
    elif registry == EMBEDDED:  # a host with this name is a stranger
        registry = f"{EMBEDDED}:443"
    return f"{registry}/{reference.repository}"


def is_embedded(registry: str, embedded: str) -> bool:
    """Whether `host:port` is the embedded registry: its own address, or `localhost` for a loopback address."""
    if not embedded:
        return False
    host, port = split_host(embedded)
    return registry == embedded or (host == "127.0.0.1" and registry == f"localhost:{port}")


def check_glob(glob: str) -> str:
    """Return a glob if it can match anything.

    `*` stands for any characters within a segment, a segment `**` for any number of segments (at the end: at least
    one). Case matters, and registries and repositories are in lower case.

    Raises:
        InvalidInput: It is malformed, or cannot match any repository.
    """
    if not glob or len(glob) > MAX_GLOB:
        raise InvalidInput(f"the glob {glob[:60]!r} must have 1 to {MAX_GLOB} characters")
    if "://" in glob:
        raise InvalidInput(f"the glob {glob!r} has a scheme", hint=f"Write {glob.partition('://')[2]!r}.")
    if "@" in glob:
        raise InvalidInput(f"the glob {glob!r} names a digest", hint="Rules are about repositories, not versions.")
    segments = glob.split("/")
    for number, segment in enumerate(segments):
        if not segment:
            raise InvalidInput(f"the glob {glob!r} begins or ends with a slash, or has two in a row")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidInput(f"the glob {glob!r} cannot match: {segment!r} has characters that no registry or "
                               "repository has", hint="Use lower-case letters, digits, . _ - : and *.")
        if "**" in segment and segment != "**":
            raise InvalidInput(f"the glob {glob!r} has ** beside other characters in {segment!r}",
                               hint="** must be a segment of its own; within a segment, * is enough.")
        if number and ":" in segment:
            raise InvalidInput(f"the glob {glob!r} names a tag", hint="Rules are about repositories, not versions.")
    if len(segments) == 1 and glob != "**":
        raise InvalidInput(f"the glob {glob!r} matches no repository", hint=f"Write {glob + '/**'!r} for all of it.")
    return glob


def matches(glob: str, subject: str) -> bool:
    """Whether a glob that :func:`check_glob` accepts matches what :func:`subject_of` returns."""
    wanted, found = tuple(glob.split("/")), tuple(subject.split("/"))
    # Row by row over the glob: can its first n segments match the first m of the subject?
    reached = {0}
    for number, segment in enumerate(wanted):
        if segment == "**":
            least = 1 if number == len(wanted) - 1 else 0
            reached = {m for start in reached for m in range(start + least, len(found) + 1)}
        else:
            pattern = _pattern(segment)
            reached = {start + 1 for start in reached if start < len(found) and pattern.fullmatch(found[start])}
    return len(found) in reached


@lru_cache(maxsize=1024)
def _pattern(segment: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in re.split(r"\*+", segment)))
