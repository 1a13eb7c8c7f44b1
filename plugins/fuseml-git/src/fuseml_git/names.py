"""Names of projects, repositories and revisions as they come from outside; nothing else becomes part of a path."""

from __future__ import annotations

import re

from fuseml_sdk.errors import InvalidInput

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
HEX = re.compile(r"[0-9a-f]{7,64}")
FULL = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
#: Branches and tags: a safe subset of git-check-ref-format(1).
ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")


def is_name(text: str) -> bool:
    """Whether a text can name a project or a repository."""
    return NAME.fullmatch(text) is not None and ".." not in text and not text.endswith(".git")


def check_name(text: str, what: str) -> str:
    """Return a name of a `what` (project or codeset).

    Raises:
        InvalidInput: It is none.
    """
    if not is_name(text):
        raise InvalidInput(f"{text!r} cannot name a {what}",
                           hint="Use 1 to 63 lower-case letters, digits, '-', '_' or '.'.")
    return text


def revision(digest: str) -> list[str]:
    """Turn the digest of a reference into git revisions to try: an object id, or a branch and a tag of that name.

    Args:
        digest: `git:<hex>`, leading hex digits, or the name of a branch or tag.

    Raises:
        InvalidInput: It is none of these.
    """
    text = digest.removeprefix("git:")
    if HEX.fullmatch(text):
        return [text]
    if digest.startswith("git:") or not ALIAS.fullmatch(text) or ".." in text or text.endswith((".lock", "/", ".")):
        raise InvalidInput(f"{digest!r} is neither a commit nor the name of a branch or tag")
    return [f"refs/heads/{text}", f"refs/tags/{text}"]
