"""Commits as artifact versions."""

from __future__ import annotations

from typing import Any

from fuseml_git.git import GitFailed
from fuseml_git.names import revision
from fuseml_git.refs import HEADS, TAGS, read_refs
from fuseml_git.repositories import Repository
from fuseml_git.trees import list_files
from fuseml_sdk.errors import NotFound
from fuseml_sdk.types import CODESET, ArtifactDescriptor

#: Refs that keep registered commits when their branch moves away or is deleted; hidden from clients.
KEEP = "refs/fuseml/versions/"
FORMAT = "--format=%H%x00%T%x00%P%x00%an%x00%ae%x00%ct%x00%B"


def resolve(repository: Repository, digest: str) -> str:
    """Return the full id of the commit that a digest, short id, branch or tag names.

    Raises:
        InvalidInput: The text can name none.
        NotFound: There is no such commit.
    """
    for name in revision(digest):
        try:
            output = repository.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitFailed:
            continue
        return output.decode().strip()
    raise NotFound(f"codeset {repository.project}/{repository.name} has no commit {digest!r}",
                   hint="Push it first, or give more digits if the short form is not unique.")


def keep(repository: Repository, commit: str) -> None:
    """Keep a commit for good, whatever becomes of its branch."""
    repository.git("update-ref", f"{KEEP}{commit}", commit)


def describe(repository: Repository, commit: str, *, files: bool = False) -> ArtifactDescriptor:
    """Make the descriptor of a commit.

    Args:
        repository: Where it lies.
        commit: Its full id.
        files: Also list its files and their total size.
    """
    output = repository.git("show", "--no-patch", "--no-show-signature", FORMAT, commit).decode("utf-8", "replace")
    commit, tree, parents, author, email, time, message = output.split("\0", 6)
    metadata: dict[str, Any] = {"tree": tree, "parents": parents.split(), "author": author, "email": email,
                                "committed_at": int(time), "message": message.strip()}
    listing = list_files(repository, commit) if files else None
    return ArtifactDescriptor(
        kind=CODESET, project=repository.project, name=repository.name, digest=f"git:{commit}",
        location=location(repository, commit), aliases=aliases(repository, commit), metadata=metadata, files=listing,
        size=sum(f.size for f in listing) if listing is not None else None)


def aliases(repository: Repository, commit: str) -> list[str]:
    """Branches and tags that point at a commit now."""
    refs = {**read_refs(repository.path, HEADS), **read_refs(repository.path, TAGS)}
    return sorted({ref.removeprefix(HEADS).removeprefix(TAGS) for ref, at in refs.items() if at == commit})


def location(repository: Repository, commit: str = "") -> str:
    """URI of the repository on this machine, of one commit if given."""
    return repository.path.resolve().as_uri().replace("file:", "git+file:", 1) + (f"?commit={commit}" if commit else "")
