"""R134: the git store keeps every rule of the kit, in every host."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from fuseml_git.plugin import GitStore
from fuseml_sdk.testing import Samples, conformance
from fuseml_sdk.testing.samples import PROJECT
from fuseml_sdk.types import RegisterRequest

pytestmark = pytest.mark.full
WHEN = "2026-01-01T00:00:00+00:00"


class Commits(Samples):
    """Contents of a codeset are pushed with git, and registered by their commit."""

    touch_state = True

    def artifact(self, plugin, folder, text, *, name="sample"):
        made = plugin.call("store_register", request=RegisterRequest(kind="codeset", project=PROJECT, name=name))
        (folder / "data.csv").write_text(text, encoding="utf-8")
        git(folder, "init", "--quiet")
        git(folder, "add", "data.csv")
        git(folder, "commit", "--quiet", "--message", "Data")
        branch = "b-" + hashlib.sha256(text.encode()).hexdigest()[:8]
        git(folder, "push", "--quiet", "--force", made.metadata["path"], f"HEAD:refs/heads/{branch}")
        return RegisterRequest(kind="codeset", project=PROJECT, name=name, digest="git:" + git(folder, "rev-parse", "HEAD"))


def git(folder, *arguments):
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "A"), ("EMAIL", "a@example.com"), ("DATE", WHEN))}
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **who})
    return done.stdout.strip()


TestGitStore = conformance(GitStore, samples=Commits(), hosts=["in-process", "subprocess", "asgi", "address"])
