"""Git runs without what a user's settings add, and each of its failures has its own remedy."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.support.project import ROOT, Project
from tools.experiments import store
from tools.experiments.checkouts import Checkout
from tools.experiments.store import Snapshot
from tools.repository import git
from tools.share import exchange
from tools.verify import rebuild

HOOKS = ("post-checkout", "post-index-change", "pre-push", "post-commit", "pre-auto-gc")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository with one commit and a remote."""
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.must("git", "init", "--quiet", "--initial-branch=main")
    made.must("git", "config", "user.name", "Test")
    made.must("git", "config", "user.email", "test@example.org")
    (made.folder / ".dvc").mkdir()
    for name, text in {
        ".dvc/config": "[core]\n    analytics = false\n",
        "dvc.yaml": "stages: {}\n",
        "a.txt": "a\n",
    }.items():
        (made.folder / name).write_text(text)
    made.commit("One")
    made.must("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    made.must("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    return made


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a user who has git run programs, each of which fails; a file names them."""
    log = tmp_path / "started"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in (*HOOKS, "monitor", "pager", "gpg", "external"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} >>'{log}'\nexit 1\n")
        (programs / name).chmod(0o755)
    (programs / "hooks").mkdir()
    (programs / "hooks/post-checkout").write_text(f"#!/bin/sh\necho template >>'{log}'\nexit 1\n")
    (programs / "hooks/post-checkout").chmod(0o755)
    settings = f"""
[core]
    hooksPath = {programs}
    fsmonitor = {programs}/monitor
    pager = {programs}/pager
[init]
    templateDir = {programs}
[gpg]
    program = {programs}/gpg
[diff]
    external = {programs}/external
    relative = true
[color]
    ui = always
[push]
    followTags = true
"""
    settings += "".join(
        f"[{section}]\n    gpgSign = true\n" for section in ("commit", "tag", "push")
    )
    commands = ("checkout", "commit-tree", "diff", "ls-files", "push", "rev-parse", "status")
    settings += "[alias]\n" + "".join(f"    {each} = !echo alias >>{log}\n" for each in commands)
    (tmp_path / "gitconfig").write_text(settings)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(programs))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(programs / "external"))
    monkeypatch.setenv("GIT_PAGER", str(programs / "pager"))
    return log


def test_no_setting_of_a_user_has_git_run_a_program(
    project: Project, started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run("git", "checkout", "--quiet", "-b", "trial")  # the user's own command
    assert {"monitor", "post-checkout"} <= set(started.read_text().split())
    # One that would run in the remote too, if it were set for all repositories.
    (project.folder / ".git/transactions").mkdir()
    hook = shutil.copy(tmp_path / "programs/gpg", project.folder / ".git/transactions")
    Path(hook).rename(project.folder / ".git/transactions/reference-transaction")
    project.must("git", "config", "core.hooksPath", ".git/transactions")
    started.unlink()

    monkeypatch.chdir(project.folder)
    (project.folder / "a.txt").write_text("b\n")
    snapshot = store.take_snapshot(project.folder)
    assert git.content(snapshot.commit, "a.txt") == b"b\n"
    changed = git.run("diff", "--name-only", snapshot.baseline, snapshot.commit)
    assert changed == b"a.txt\n"  # in no colour
    Checkout(project.folder, tmp_path / "checkout", snapshot)._check_out()
    assert (tmp_path / "checkout/a.txt").read_text() == "b\n"
    assert not list((tmp_path / "checkout/.git").glob("hooks/*"))
    clone = rebuild.prepare(tmp_path / "rebuild", snapshot.baseline, without=[])
    assert (clone / "a.txt").read_text() == "a\n"
    git.run("update-ref", store._ref(store.FINISHED, snapshot, _named("one")), snapshot.commit)
    sent = exchange.send("origin", exchange.names_of("origin"), snapshot.baseline, force=False)
    assert sent.moved == ["one"]
    assert git.uncommitted() == ["a.txt"]
    assert not started.exists()


def _named(name: str) -> store.Experiment:
    return store.Experiment(name, name, {}, 1, "portable", 1, "cpu", b"")


def test_only_one_file_starts_git() -> None:
    sources = [
        each
        for folder in ("core", "stages", "tools", "benchmarks")
        for each in sorted((ROOT / folder).glob("**/*.py"))
    ]
    starting = [
        str(each.relative_to(ROOT))
        for each in sources
        if re.search(
            r"""(run|Popen|check_output|call|system)\(\s*[\[(]?\s*["']git\b""",
            each.read_text(encoding="utf-8"),
        )
    ]
    assert starting == ["tools/repository/git.py"]
