"""Pushing a folder as a version of a codeset (DESIGN: identity).

A clean git root is pushed as its own HEAD, so that commit ids agree. Anything else becomes a snapshot: a commit on the
tip of the server's branch, made in a temporary repository, so that the user's repository is never touched.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fuseml_core.cli.git import TRANSFER, Git, last_lines
from fuseml_core.cli.survey import Survey
from fuseml_core.domain.errors import Conflict, Failed, FusemlError, Invalid, Refused, Unavailable

#: Name of the author of snapshots.
AUTHOR = "fuseml"
#: How often a snapshot is put onto a new tip when others push at the same time.
ATTEMPTS = 8
#: A snapshot holds the bytes of the files: no line-end conversion, no LFS or other filter.
ATTRIBUTES = "* -text -filter -ident -eol -working-tree-encoding\n"
_MOVED = re.compile(r"fetch first|non-fast-forward|stale info|failed to update ref|cannot lock ref|incorrect old value|"
                    r"failed to lock|reference already exists")


@dataclass(frozen=True, slots=True)
class Pushed:
    """The outcome of a push.

    Attributes:
        commit: Full id of the commit that the branch ends in now.
        new: Whether the branch has moved.
        snapshot: Whether the commit is a snapshot rather than the user's own.
        note: What the user should know about how it was done; may be empty.
    """

    commit: str
    new: bool
    snapshot: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """A branch of the server's repository."""

    url: str
    branch: str

    @property
    def ref(self) -> str:
        """Full name of the branch."""
        return f"refs/heads/{self.branch}"

    def settings(self) -> tuple[str, ...]:
        """A proxy cannot reach this machine's loopback address."""
        return ("http.proxy=",) if urlsplit(self.url).hostname in ("127.0.0.1", "::1", "localhost") else ()

    def tip(self, git: Git) -> str:
        """Commit that the branch ends in; empty if there is no such branch."""
        done = git.try_("ls-remote", self.url, self.ref, timeout=120.0)
        if done.returncode != 0:
            raise _transfer_error(self, done.stderr)
        return done.stdout.split(b"\t")[0].decode() if done.stdout else ""


def check_branch(branch: str) -> None:
    """Check the name of a branch.

    Raises:
        Invalid: Git does not allow it.
    """
    if branch.startswith("-") or Git(Path.cwd()).try_("check-ref-format", f"refs/heads/{branch}").returncode != 0:
        raise Invalid(f"{branch!r} cannot be the name of a branch.", hint="Use letters, digits and hyphens.")


def push(found: Survey, remote: Remote, message: str = "") -> Pushed:
    """Push what was found in a folder.

    Args:
        found: The survey of the folder.
        remote: Where to.
        message: Of the snapshot's commit; by default it names the folder.

    Returns:
        The commit that now stands for the folder; `new` is False when the server had the same tree already.

    Raises:
        Conflict: The server's branch has commits that the folder's own commit does not contain.
        Refused: The server declined the push.
        Unavailable: The server does not answer, or the branch keeps moving.
        Failed: Git failed for another reason.
    """
    if found.head:
        pushed = _push_head(found, remote)
        if pushed is not None:
            return pushed
    with tempfile.TemporaryDirectory(prefix="fuseml-snapshot-") as scratch:
        git = _repository(Path(scratch), found, remote)
        tree = _tree(git, found)
        pushed = _push_tree(git, tree, remote, message or f"Snapshot of {found.folder.name or 'a folder'}")
    note = "The server's branch ends in a snapshot, so this was put on top of it as a snapshot." if found.head else ""
    return Pushed(pushed.commit, pushed.new, True, note)


def _push_head(found: Survey, remote: Remote) -> Pushed | None:
    """Push the folder's own commit; None if the branch ends in a snapshot, on which it cannot be based."""
    git = Git(found.folder, settings=remote.settings())
    tip = remote.tip(git)
    if tip == found.head:
        return Pushed(found.head, new=False, snapshot=False)
    refusal = _send(git, found.head, remote)
    if refusal is None:
        return Pushed(found.head, new=True, snapshot=False)
    if not _MOVED.search(refusal):
        raise Refused(f"The server declined the push: {refusal}")
    if _ends_in_snapshot(remote):
        return None
    raise Conflict(f"Branch {remote.branch} at the server has commits that HEAD of {found.folder} does not contain.",
                   hint=f"Merge them first: git pull {remote.url} {remote.branch}\n"
                        "Or push to another --branch, or put the files on top with --snapshot.")


def _ends_in_snapshot(remote: Remote) -> bool:
    with tempfile.TemporaryDirectory(prefix="fuseml-tip-") as scratch:
        Git(Path(scratch)).run("init", "--quiet", "--template=", ".")
        git = Git(Path(scratch), settings=remote.settings())
        _fetch(git, remote)
        return git.line("log", "-1", "--format=%cn", "FETCH_HEAD") == AUTHOR


def _repository(scratch: Path, found: Survey, remote: Remote) -> Git:
    """A temporary repository with its own index and objects, and the folder as its work tree."""
    Git(scratch).run("init", "--quiet", "--template=", "repository")
    directory = scratch / "repository" / ".git"
    (directory / "info").mkdir(exist_ok=True)
    (directory / "info" / "attributes").write_text(ATTRIBUTES)
    identity = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
                for part, value in (("NAME", AUTHOR), ("EMAIL", _address()))}
    return Git(found.folder, {"GIT_DIR": str(directory), "GIT_WORK_TREE": str(found.folder), **identity},
               ("core.autocrlf=false", "core.fileMode=true", "core.symlinks=true", "core.safecrlf=false",
                "core.bigFileThreshold=20m", *remote.settings()))


def _tree(git: Git, found: Survey) -> str:
    """Write the files into the temporary objects and return the tree's id."""
    done = git.try_("update-index", "--add", "-z", "--stdin", stdin=b"\0".join(found.files) + b"\0")
    if done.returncode != 0:
        raise Failed(f"Reading the files in {found.folder} failed: {last_lines(done.stderr)}",
                     hint="Every file must be readable, or be excluded by .fusemlignore.")
    return git.line("write-tree")


def _push_tree(git: Git, tree: str, remote: Remote, message: str) -> Pushed:
    """Commit a tree on the server's tip and push it; again on the new tip if somebody else was faster."""
    for _ in range(ATTEMPTS):
        tip = remote.tip(git)
        if tip:
            _fetch(git, remote)
            tip = git.line("rev-parse", "FETCH_HEAD")
            if git.line("rev-parse", f"{tip}^{{tree}}") == tree:
                return Pushed(tip, new=False, snapshot=True)
        commit = os.fsdecode(git.run("commit-tree", tree, *(("-p", tip) if tip else ()),
                                     stdin=message.encode("utf-8", "surrogateescape"))).strip()
        refusal = _send(git, commit, remote)
        if refusal is None:
            return Pushed(commit, new=True, snapshot=True)
        if not _MOVED.search(refusal):
            raise Refused(f"The server declined the push: {refusal}")
    raise Unavailable(f"Branch {remote.branch} kept moving while this was pushed.", hint="Try again.")


def _fetch(git: Git, remote: Remote) -> None:
    """Get the branch's last commit without its history."""
    done = git.try_("fetch", "--quiet", "--no-tags", "--depth=1", remote.url, remote.ref, timeout=TRANSFER)
    if done.returncode != 0:
        raise _transfer_error(remote, done.stderr)


def _send(git: Git, commit: str, remote: Remote) -> str | None:
    """Push a commit to the branch; None if it was accepted, else the server's reason."""
    done = git.try_("push", "--porcelain", "--no-verify", remote.url, f"{commit}:{remote.ref}", timeout=TRANSFER)
    if done.returncode == 0:
        return None
    for line in os.fsdecode(done.stdout).splitlines():
        if line.startswith("!"):
            said = [text[7:].strip() for text in os.fsdecode(done.stderr).splitlines() if text.startswith("remote:")]
            return "\n".join([line.split("\t")[-1], *(text for text in said if text)])
    raise _transfer_error(remote, done.stderr)


def _transfer_error(remote: Remote, stderr: bytes) -> FusemlError:
    """The error for a transfer that did not take place."""
    said = last_lines(stderr)
    if "returned error: 507" in said:
        return Unavailable(f"There is no space left on the disk of the server at {remote.url}",
                           hint="Free some space there and push again.")
    if re.search(r"Failed to connect|Couldn't connect|Could not resolve|refused|timed out|returned error: 50[234]"
                 r"|Empty reply|early EOF|hung up|RPC failed", said):
        return Unavailable(f"The server's git at {remote.url} does not answer: {said}",
                           hint="See: fuseml server status")
    return Failed(f"Git could not reach {remote.url}: {said}")


def _address() -> str:
    """`user@host` of whoever pushes."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without an entry, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname() or 'localhost'}"
