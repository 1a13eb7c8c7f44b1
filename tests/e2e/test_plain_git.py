"""Codesets are git repositories: pushed to by any clone, cloned from, and watched."""

from __future__ import annotations

from pathlib import Path


def _clone(project, tmp_path: Path) -> Path:
    """A repository of somebody who knows git and nothing of FuseML."""
    repository = tmp_path / "repository"
    repository.mkdir()
    project.fuseml.git("init", "-q", cwd=repository)
    (repository / "numbers.txt").write_text("1 2 3\n")
    project.fuseml.git("add", ".", cwd=repository)
    project.fuseml.git("commit", "-qm", "Add numbers", cwd=repository)
    return repository


def test_r35_r194_r196_a_plain_push_is_noticed_and_starts_what_depends_on_it(project, tmp_path):
    """Nothing but git in a clone of a codeset: the commit becomes a version, the pipeline runs."""
    git = project.fuseml.git
    project.push("plain", numbers="1\n")
    project.add_pipelines(serve=False)
    project("run", "watch", "training-pipeline/1")
    git("clone", "-q", project.json("codeset", "get", "plain")["clone_url"], "clone", cwd=tmp_path)
    (tmp_path / "clone/numbers.txt").write_text("1 2 3\n")

    git("commit", "-qam", "Add numbers", cwd=tmp_path / "clone")
    git("push", "-q", cwd=tmp_path / "clone")

    commit = git("rev-parse", "HEAD", cwd=tmp_path / "clone")
    project.fuseml.wait_for(lambda: project.json("run", "list")[1:], 30, "another run")
    run = project.run("training-pipeline/2")
    assert run["inputs"][0]["address"] == f"code://{project.name}/plain@git:{commit}"
    project("run", "watch", "training-pipeline/2")
    assert project.run("training-pipeline/2")["state"] == "succeeded"


def test_r31_r34_a_clean_repository_is_pushed_as_its_own_commit(project, tmp_path):
    """The ids agree, so the address names the commit that the person knows."""
    repository = _clone(project, tmp_path)
    commit = project.fuseml.git("rev-parse", "HEAD", cwd=repository)

    project("codeset", "push", str(repository), "--name", "clean")

    (version,) = project.json("codeset", "get", "clean")["versions"]
    assert version["address"] == f"code://{project.name}/clean@git:{commit}"
    assert version["short"] == f"code://{project.name}/clean/{commit[:7]}"


def test_r27_r33_r195_a_pushed_folder_can_be_cloned_with_its_history(project, tmp_path):
    """Each push is a commit on the branch; the person's folder got no repository."""
    project.push(numbers="1\n")
    project.push(numbers="2\n")

    url = project.json("codeset", "get", "myapp")["clone_url"]
    project.fuseml.git("clone", "-q", url, "copy", cwd=tmp_path)

    assert (tmp_path / "copy/numbers.txt").read_text() == "2\n"
    assert project.fuseml.git("rev-list", "--count", "HEAD", cwd=tmp_path / "copy") == "2"
    assert not (project.folder / ".git").exists()


def test_a_push_and_the_notice_of_it_make_one_version_and_one_run(project, tmp_path):
    """The command line registers and the store notices; both mean the same commit."""
    project.add_pipelines(serve=False)
    for number in range(3):
        project.push(numbers=f"{number}\n")

    assert len(project.json("codeset", "get", "myapp")["versions"]) == 3
    assert len(project.json("run", "list")) == 3
