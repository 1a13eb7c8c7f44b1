"""Bare repositories on disk: `<root>/<project>/<name>.git`."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseml_git.git import git
from fuseml_git.names import check_name, is_name
from fuseml_sdk.errors import NotFound

SUFFIX = ".git"
JOURNAL = "events.jsonl"
#: Seconds after which a lock or a pack in receipt belongs to nobody any more.
STALE = 3600.0
#: Prefix of directories that are being made or removed; never a name.
HIDDEN = "."

#: transfer.unpackLimit 1: a push becomes one pack, which appears as a whole; loose objects would come one by one,
#: and a kill between two of them leaves a commit without its tree.
#: gc: git joins the packs when there are many, and the push that was one too many waits for it; nothing is ever
#: pruned, because commits that no branch reaches any more are versions still.
CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\thooksPath = hooks
\tfsync = committed
\tfsyncMethod = batch
[http]
\treceivepack = true
\tmaxRequestBuffer = 100M
[receive]
\tdenyDeletes = false
\tdenyNonFastForwards = false
\tautogc = true
[transfer]
\tfsckObjects = true
\tunpackLimit = 1
\thideRefs = refs/fuseml
[uploadpack]
\tallowAnySHA1InWant = true
[gc]
\tautoPackLimit = 50
\tautoDetach = false
\tpruneExpire = never
\treflogExpire = never
\treflogExpireUnreachable = never
[maintenance]
\tautoDetach = false
"""

#: Runs in the repository after refs have moved. One printf is one write(2) with O_APPEND: lines never mix.
HOOK = """\
#!/bin/sh
# Tells the server what was pushed: one JSON line for each ref, in the journal beside the projects.
repository=$(pwd -P)
name=${repository##*/}
name=${name%.git}
project=${repository%/*}
project=${project##*/}
now=$(date +%s)
while read -r old new ref; do
  case "$ref" in *\\"*) ref=$(printf '%s' "$ref" | sed 's/"/\\\\"/g') ;; esac
  printf '{"time":%s,"project":"%s","name":"%s","ref":"%s","old":"%s","new":"%s"}\\n' \\
    "$now" "$project" "$name" "$ref" "$old" "$new" >> ../../events.jsonl
done
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository that exists."""

    root: Path
    project: str
    name: str

    @property
    def path(self) -> Path:
        """The bare repository's directory."""
        return self.root / self.project / f"{self.name}{SUFFIX}"

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run git in the repository; see :func:`fuseml_git.git.git`."""
        return git(self.root, self.path, *arguments, stdin=stdin)


def find(root: Path, project: str, name: str) -> Repository:
    """Return a repository.

    Raises:
        InvalidInput: A name is none.
        NotFound: There is no such repository.
    """
    repository = Repository(root, check_name(project, "project"), check_name(name, "codeset"))
    if not (repository.path / "HEAD").is_file():
        raise NotFound(f"there is no codeset {name!r} in project {project!r}",
                       hint=f"`fuseml codeset push <folder> --name {name}` makes it.")
    return repository


def create(root: Path, project: str, name: str) -> Repository:
    """Make an empty repository, or return the one that is there.

    Raises:
        InvalidInput: A name is none.
    """
    with contextlib.suppress(NotFound):
        return find(root, project, name)
    repository = Repository(root, project, name)
    repository.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = root / f"{HIDDEN}new-{secrets.token_hex(8)}"
    try:
        git(root, draft, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
        (draft / "config").write_text(CONFIG, encoding="utf-8")
        (draft / "hooks").mkdir(exist_ok=True)
        hook = draft / "hooks" / "post-receive"
        hook.write_text(HOOK, encoding="utf-8")
        hook.chmod(0o755)
        with contextlib.suppress(FileExistsError, OSError):  # somebody else was faster: theirs is as good
            draft.rename(repository.path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return find(root, project, name)


def delete(repository: Repository) -> None:
    """Remove a repository: first out of sight, then from disk."""
    trash = repository.root / f"{HIDDEN}old-{secrets.token_hex(8)}"
    repository.path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
    with contextlib.suppress(OSError):
        repository.path.parent.rmdir()  # only when it was the project's last


def sweep(root: Path) -> None:
    """Remove what killed processes left: half-made and half-removed repositories, old locks and received packs.

    Only for the store's own start. A push may be under way, so locks and packs must be older than `STALE` seconds.
    """
    for path in (*root.glob(f"{HIDDEN}old-*"), *root.glob(f"{HIDDEN}new-*")):
        shutil.rmtree(path, ignore_errors=True)
    for repository in all_repositories(root):
        leftovers = [*repository.path.glob("objects/tmp_objdir-incoming-*"), *repository.path.glob("*.lock"),
                     *repository.path.glob("refs/**/*.lock")]
        for path in leftovers:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def all_repositories(root: Path) -> Iterator[Repository]:
    """Every repository, by project and name."""
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if is_name(folder.name) and folder.is_dir():
            for name in sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")):
                if is_name(name) and (folder / f"{name}{SUFFIX}" / "HEAD").is_file():
                    yield Repository(root, folder.name, name)
