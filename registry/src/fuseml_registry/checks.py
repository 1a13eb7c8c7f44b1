"""Checks of what a path or query contains: malformed names and digests are 400, never 500."""

from __future__ import annotations

from fuseml_oci.digests import is_digest, split_digest
from fuseml_oci.reference import check_repository, check_tag
from fuseml_registry.errors import RegistryError, digest_invalid, manifest_invalid, name_invalid, name_unknown
from fuseml_registry.storage import Storage
from fuseml_sdk.errors import InvalidInput


def repository(name: str) -> str:
    """Return a valid repository name.

    Raises:
        RegistryError: NAME_INVALID.
    """
    try:
        return check_repository(name)
    except InvalidInput:
        raise name_invalid(name) from None


def known(storage: Storage, name: str) -> str:
    """Return the valid name of a repository that exists.

    Raises:
        RegistryError: NAME_INVALID, NAME_UNKNOWN.
    """
    if not storage.exists(repository(name)):
        raise name_unknown(name)
    return name


def digest(text: str) -> str:
    """Return a valid digest.

    Raises:
        RegistryError: DIGEST_INVALID.
    """
    try:
        split_digest(text)
    except InvalidInput as error:
        raise digest_invalid(str(error)) from None
    return text


def tag(text: str) -> str:
    """Return a valid tag.

    Raises:
        RegistryError: MANIFEST_INVALID.
    """
    try:
        return check_tag(text)
    except InvalidInput as error:
        raise manifest_invalid(str(error)) from None


def reference(text: str) -> str:
    """Return a valid tag or digest.

    Raises:
        RegistryError: DIGEST_INVALID, MANIFEST_INVALID.
    """
    return digest(text) if is_digest(text) else tag(text)


def count(text: str | None) -> int | None:
    """Return the page size `n` of a list; None if there is none.

    Raises:
        RegistryError: PAGINATION_NUMBER_INVALID.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RegistryError(400, "PAGINATION_NUMBER_INVALID", f"n={text[:40]!r} is not a number of entries")
    return int(text)
