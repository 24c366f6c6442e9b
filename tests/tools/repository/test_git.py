"""Git runs without what a user's settings add, and each of its failures has its own remedy."""

import re
import shutil
from pathlib import Path

import pytest

from core.pipeline.errors import PipelineError, SetupError, StorageError
from tests.support.project import ROOT, Project
from tools.experiments import store
from tools.experiments.checkouts import Checkout
from tools.repository import git

HOOKS = ("post-checkout", "post-index-change", "pre-push", "post-commit", "pre-auto-gc")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A repository with one commit and a remote."""
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.start_history()
    (made.folder / ".dvc").mkdir()
    for name, text in {
        ".dvc/config": "[core]\n    analytics = false\n",
        "dvc.yaml": "stages: {}\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
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
    Checkout(project.folder, tmp_path / "checkout", snapshot)._check_out(Path(), {})
    assert (tmp_path / "checkout/a.txt").read_text() == "b\n"
    assert not list((tmp_path / "checkout/.git").glob("hooks/*"))
    clone = git.check_out(project.folder, tmp_path / "clone", snapshot.baseline)
    assert (clone / "a.txt").read_text() == "a\n"
    git.run("push", "origin", f"{snapshot.commit}:refs/exps/one")
    sent = git.run("ls-remote", "origin", "refs/exps/one")
    assert sent.decode() == f"{snapshot.commit}\trefs/exps/one\n"
    assert git.uncommitted() == ["a.txt"]
    assert not started.exists()


def test_only_one_file_starts_git() -> None:
    measured = "benchmarks/many_experiments.py"  # it times what a user types
    starting = [
        path.relative_to(ROOT).as_posix()
        for folder in ("core", "stages", "tools", "benchmarks")
        for path in sorted((ROOT / folder).glob("**/*.py"))
        if re.search(r"""[\[(]\s*["']git["' ]""", path.read_text(encoding="utf-8"))
    ]
    assert starting == ["tools/repository/git.py", measured]


def failure(*arguments: str, cwd: Path) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        git.run(*arguments, cwd=cwd)
    assert caught.value.details["found"]  # what git itself says
    return caught.value


def test_a_folder_without_a_repository_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("LANGUAGE", "de")  # the causes are found in every language
    error = failure("status", cwd=tmp_path)
    assert error.what == "git status failed: this folder is not in a git repository"
    assert error.details["next"].startswith("run it in a clone of the repository")
    monkeypatch.chdir(tmp_path)
    for ask in (git.commit_of, git.exists):  # no answer is another than: there is none
        with pytest.raises(SetupError, match="not in a git repository"):
            ask("main")


def test_a_repository_of_another_user_is_said_to_be_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    error = failure("status", cwd=project.folder)
    assert "belongs to another user" in error.what
    trust = f"git config --global --add safe.directory {project.folder}"
    assert error.details["next"].startswith(trust)


def test_a_lock_that_is_in_the_way_is_named(project: Project) -> None:
    lock = project.folder / ".git/index.lock"
    lock.touch()
    error = failure("reset", "--hard", cwd=project.folder)
    assert "another git command is running in this repository" in error.what
    assert error.details["next"].endswith(f"if none is running: rm {lock}")


def test_a_revision_that_is_not_there_may_be_truncated_or_not_fetched(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project.must("git", "rev-parse", "HEAD").strip()
    (project.folder / "a.txt").write_text("b\n")
    project.commit("Two")
    error = failure("checkout", "--detach", "f" * 40, cwd=project.folder)
    assert error.what == "git checkout failed: the repository lacks this revision"
    assert "git fetch gets those of the remote" in error.details["next"]
    shallow = tmp_path / "shallow"
    project.must(
        *("git", "clone", "--quiet", "--depth", "1", f"file://{project.folder}", str(shallow))
    )
    error = failure("checkout", "--detach", first, cwd=shallow)
    assert error.what == "git checkout failed: the clone is shallow, and lacks this revision"
    assert error.details["next"] == "git fetch --unshallow"
    monkeypatch.chdir(shallow)
    assert not git.exists(first)
    with pytest.raises(SetupError, match=f"there is no revision {first}") as caught:
        git.commit_of(first)
    assert caught.value.details["next"].startswith("git fetch --unshallow")


def test_a_shallow_clone_with_an_uncommitted_edit_is_checked_out(
    project: Project, tmp_path: Path
) -> None:
    (project.folder / "a.txt").write_text("b\n")
    project.commit("Two")
    shallow = Project(tmp_path / "a shallow clone")
    source = f"file://{project.folder}"
    project.must("git", "clone", "--quiet", "--depth", "1", source, str(shallow.folder))
    (shallow.folder / "a.txt").write_text("c\n")
    snapshot = store.take_snapshot(shallow.folder)
    assert snapshot.commit != snapshot.baseline
    checkout = git.check_out(shallow.folder, tmp_path / "checkout", snapshot.commit)
    assert (checkout / "a.txt").read_text() == "c\n"
    assert Project(checkout).must("git", "status", "--porcelain") == ""
    assert shallow.must("git", "status", "--porcelain") == " M a.txt\n"


def test_a_hook_of_the_remote_is_named(project: Project, tmp_path: Path) -> None:
    hook = tmp_path / "origin.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not on Sundays >&2\nexit 1\n")
    hook.chmod(0o755)
    error = failure("push", "origin", "main", cwd=project.folder)
    assert error.what == "git push failed: a hook of the remote refuses it"
    assert "not on Sundays" in error.details["found"]


def test_a_damaged_repository_is_said_to_be_damaged(project: Project) -> None:
    (project.folder / ".git/index").write_bytes(b"DIRC damaged, and longer than a header")
    error = failure("status", cwd=project.folder)
    assert error.what == "git status failed: the repository is damaged"


@pytest.mark.parametrize(
    ("printed", "kind", "what"),
    [
        ("fatal: write error: No space left on device", StorageError, "the disk is full"),
        ("error: file write error: Disk quota exceeded", StorageError, "the disk is full"),
        (
            "error: insufficient permission for adding an object to repository database",
            SetupError,
            "the repository may not be read or written",
        ),
        (
            "fatal: unable to access 'https://x.org/': Could not resolve host: x.org",
            SetupError,
            "the git remote cannot be reached",
        ),
        ("error: unknown option `end-of-options'", SetupError, "this git is too old"),
        ("a.txt: unmerged (1b7c)", SetupError, "a merge has not been completed"),
        ("fatal: something else", SetupError, ""),
    ],
)
def test_what_git_prints_tells_the_cause(
    printed: str, kind: type[PipelineError], what: str, tmp_path: Path
) -> None:
    error = git._failure(["push", "origin"], printed.encode(), tmp_path)
    assert type(error) is kind
    assert error.what == f"git push failed{': ' if what else ''}{what}"
    assert error.details["next"]


def test_each_cause_has_its_own_remedy() -> None:
    remedies = [cause.todo for cause in (*git.CAUSES, git.UNKNOWN)]
    assert len(set(remedies)) == len(remedies)


def test_without_git_it_is_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="there is no such folder"):
        git.run("status", cwd=tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="git is not installed") as caught:
        git.run("status", cwd=tmp_path)
    assert caught.value.details["next"] == "install git, or add its folder to PATH"
