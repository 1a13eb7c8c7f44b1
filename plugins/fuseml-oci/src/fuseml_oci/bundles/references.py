"""What people write for a bundle: a name in the embedded registry, or a full OCI reference; and which version it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuseml_oci.digests import split_digest
from fuseml_oci.reference import Reference, check_tag, parse
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import NAME, SEMVER
from fuseml_sdk.versions import parse_version

#: Where the embedded registry keeps bundles.
NAMESPACE = "extensions"
_LOCAL_NAME = re.compile(r"(?P<name>[^/:@]+)(?::(?P<tag>[^/:@]+))?(?:@(?P<digest>[^/@]+))?")


def is_local(text: str) -> bool:
    """Whether this is a name in the embedded registry, such as `mlflow:0.1.0`, and not a full reference."""
    return _LOCAL_NAME.fullmatch(text) is not None


def read_reference(text: str, embedded: str) -> Reference:
    """Read `mlflow`, `mlflow:0.1.0`, `mlflow@sha256:…` or `oci://host/namespace/name:tag@digest`.

    Args:
        text: What somebody wrote.
        embedded: `host:port` of the embedded registry, for names.

    Raises:
        InvalidInput: It is neither.
    """
    match = _LOCAL_NAME.fullmatch(text)
    if match is None:
        return parse(text)
    if not NAME.match(match["name"]):
        raise InvalidInput(f"{match['name']!r} is not the name of an extension",
                           hint="Write a name such as mlflow, or oci://host[:port]/namespace/name:tag.")
    if match["tag"]:
        check_tag(match["tag"])
    if match["digest"]:
        split_digest(match["digest"])
    return Reference(embedded, f"{NAMESPACE}/{match['name']}", match["tag"] or "", match["digest"] or "")


def sorted_versions(tags: Sequence[str]) -> list[str]:
    """The tags that are versions: releases before pre-releases, the highest first."""
    versions = [parse_version(tag) for tag in tags if SEMVER.match(tag)]
    return [str(version) for version in sorted(versions, key=lambda v: (not v.pre, v), reverse=True)]


def newest(tags: Sequence[str], reference: Reference) -> Reference:
    """Choose what a reference without tag means: the highest release, else the last development build.

    Args:
        tags: Of the repository.
        reference: Without a tag.

    Raises:
        NotFound: No tag is a version.
    """
    versions = sorted_versions(tags)
    if not versions:
        raise NotFound(f"{reference} has no versions", hint=f"Push one: fuseml bundle push DIR {reference}")
    return reference.with_tag("dev" if "-" in versions[0] and "dev" in tags else versions[0])
