"""What a folder would push: its files, whether it is a clean git root, and what does not belong into code (R28)."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.cli.cells import size
from fuseml_core.cli.git import Git
from fuseml_core.domain.errors import Invalid, Refused

IGNORE = ".fusemlignore"
LARGE = 50 << 20
LARGE_DATA = 10 << 20
MODELS = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".keras", ".safetensors", ".gguf",
          ".tflite", ".pmml")
DATA = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".feather", ".arrow", ".npy", ".npz", ".hdf5", ".xlsx",
        ".sqlite", ".zip", ".tar", ".gz", ".zst")
#: What to do about large files and data, models, LFS pointers, and links that lead out of the folder.
ADVICE = (
    (f"large files and data do not belong into code, whose every version carries them along. Keep them in a dataset "
     f"or at a URL, and exclude them by {IGNORE}."),
    (f"models do not belong into code; they have a life cycle of their own. Let a pipeline make and register them, "
     f"and exclude them by {IGNORE}."),
    ("Git LFS keeps the contents elsewhere, so the server gets pointers only. Run `git lfs pull` and push with "
     "--snapshot, or keep the contents in a dataset."),
    "links that lead out of the folder lead nowhere on the server.",
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
#: Kinds of directory entry that git can hold.
_HELD = (stat.S_ISREG, stat.S_ISLNK)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in a folder.

    Attributes:
        folder: Absolute path.
        files: Paths relative to the folder, as bytes, sorted; what a snapshot would contain.
        head: Commit to push as it is, if the folder is a clean git root; empty: make a snapshot.
        warnings: Sentences about files that do not belong into code.
    """

    folder: Path
    files: tuple[bytes, ...]
    head: str
    warnings: tuple[str, ...]


def survey(folder: Path, *, snapshot: bool = False) -> Survey:
    """Look at a folder without changing anything in it.

    Args:
        folder: What the user wants to push.
        snapshot: Never push the folder's own commit.

    Raises:
        Invalid: The folder is missing, is no folder, holds nothing to push, or holds other git repositories.
        Refused: Git refuses to read the repository because it belongs to another user.
    """
    folder = _existing(folder)
    git = Git(folder)
    inside = _inside_repository(git)
    with tempfile.TemporaryDirectory(prefix="fuseml-survey-") as scratch:
        outside = _outsider(Path(scratch), folder)
        listed = _listed(git if inside else outside, tracked=inside)
        kept = _without_ignored(folder, listed, outside)
    _refuse_repositories(git, kept, inside)
    files = tuple(sorted(path for path in kept if _held(folder, path)))
    if not files:
        raise Invalid(f"There is nothing to push in {folder}.",
                      hint=f"It has no files, or all are ignored by .gitignore or {IGNORE}.")
    head = "" if snapshot or not inside or len(kept) != len(listed) else _clean_head(git, folder)
    return Survey(folder, files, head, tuple(_warnings(git, folder, files, head)))


def _existing(folder: Path) -> Path:
    if not folder.exists():
        raise Invalid(f"{folder} does not exist.", hint="Name the folder with the code to push.")
    if not folder.is_dir():
        raise Invalid(f"{folder} is not a folder.", hint="Push the folder that holds the file.")
    return folder.resolve()


def _inside_repository(git: Git) -> bool:
    """Whether the folder lies in a work tree (and not in a `.git` directory or nowhere)."""
    done = git.try_("rev-parse", "--is-inside-work-tree")
    if b"dubious ownership" in done.stderr:
        raise Refused(f"Git refuses to read {git.directory}: its repository belongs to another user.",
                      hint=f"If you trust it: git config --global --add safe.directory {git.directory}")
    if done.stdout.strip() == b"false":
        raise Invalid(f"{git.directory} is the inside of a git repository, not code.",
                      hint="Push the repository's work tree.")
    # An ignored folder inside a repository (a build directory, say) is code of its own to the person who pushes it.
    return done.returncode == 0 and git.try_("check-ignore", "-q", ".").returncode != 0


def _outsider(scratch: Path, folder: Path) -> Git:
    """Git with an empty repository of its own and the folder as its work tree."""
    Git(scratch).run("init", "--quiet", "--template=", "repository")
    return Git(folder, {"GIT_DIR": str(scratch / "repository" / ".git"), "GIT_WORK_TREE": str(folder)})


def _listed(git: Git, *, tracked: bool) -> set[bytes]:
    """Files that git would take: tracked ones and those no .gitignore excludes; `name/` is another repository."""
    options = ("--cached",) if tracked else ()
    output = git.run("ls-files", "-z", *options, "--others", "--exclude-standard")
    return {path for path in output.split(b"\0") if path}


def _without_ignored(folder: Path, listed: set[bytes], outside: Git) -> set[bytes]:
    """Leave out what `.fusemlignore` files, written like .gitignore, exclude."""
    name = os.fsencode(IGNORE)
    if not (folder / IGNORE).exists() and not any(path.rpartition(b"/")[2] == name for path in listed):
        return listed
    output = outside.run("ls-files", "-z", "--others", f"--exclude-per-directory={IGNORE}")
    allowed = {path for path in output.split(b"\0") if path}
    return {path for path in listed if path in allowed or path + b"/" in allowed}


def _refuse_repositories(git: Git, paths: set[bytes], inside: bool) -> None:
    """A codeset holds files; repositories in it would be lost silently."""
    nested = {os.fsdecode(path.rstrip(b"/")) for path in paths if path.endswith(b"/")}
    if inside:
        entries = git.run("ls-files", "-z", "--stage").split(b"\0")
        links = {entry.partition(b"\t")[2] for entry in entries if entry.startswith(b"160000 ")}
        nested |= {os.fsdecode(path) for path in links & paths}
    if nested:
        names = ", ".join(sorted(nested)[:5])
        raise Invalid(f"{git.directory} contains other git repositories or submodules: {names}",
                      hint=f"Push each as a codeset of its own, or exclude it by a line in {IGNORE}.")


def _held(folder: Path, path: bytes) -> bool:
    """Whether a path is there (a tracked file may have been deleted) and of a kind that git holds."""
    try:
        mode = os.lstat(os.path.join(os.fsencode(folder), path)).st_mode  # noqa: PTH118 - bytes, any name
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(is_kind(mode) for is_kind in _HELD)


def _clean_head(git: Git, folder: Path) -> str:
    """HEAD, if the folder is the root of a clean, whole work tree; else empty."""
    top = os.fsdecode(git.run("rev-parse", "--show-toplevel").rstrip(b"\n"))
    if not Path(top).samefile(folder):
        return ""
    head = git.try_("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head.returncode != 0 or len(head.stdout.strip()) != 40:  # no commit yet, or a SHA-256 repository
        return ""
    if git.line("rev-parse", "--is-shallow-repository") == "true":  # a server rejects half a history
        return ""
    status = git.run("status", "--porcelain", "-z", "--untracked-files=all")
    return "" if status else head.stdout.strip().decode()


def _warnings(git: Git, folder: Path, files: tuple[bytes, ...], head: str) -> list[str]:
    large, models, data, pointers, links = [], [], [], [], []
    for path in files:
        full, name = os.path.join(os.fsencode(folder), path), os.fsdecode(path)  # noqa: PTH118
        entry = os.lstat(full)
        if stat.S_ISLNK(entry.st_mode):
            if not Path(os.fsdecode(full)).resolve().is_relative_to(folder):
                links.append(name)
        elif entry.st_size > LARGE:
            large.append(f"{name} ({size(entry.st_size)})")
        elif name.lower().endswith(MODELS):
            models.append(name)
        elif name.lower().endswith(DATA) and entry.st_size > LARGE_DATA:
            data.append(f"{name} ({size(entry.st_size)})")
        elif entry.st_size < 1024 and _starts_with(full, LFS_POINTER):
            pointers.append(name)
    if head:
        pointers += [os.fsdecode(p) for p in git.run("ls-files", "-z", "--", ":(attr:filter=lfs)").split(b"\0") if p]
    findings = (large + data, models, pointers, links)
    return [f"{_some(names)}: {advice}" for names, advice in zip(findings, ADVICE, strict=True) if names]


def _starts_with(path: bytes, start: bytes) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - bytes, any name
            return file.read(len(start)) == start
    except OSError:
        return False


def _some(names: list[str]) -> str:
    """The first names and how many more there are."""
    names = sorted(set(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
