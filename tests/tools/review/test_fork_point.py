"""What a review takes as its base: the latest fork, whatever the branch is called and where."""

import subprocess
from pathlib import Path

import pytest

from core.pipeline.errors import SetupError
from tools.review import fork_point

ENVIRONMENT = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
} | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


def git(*arguments: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(message: str, folder: Path | None = None) -> str:
    git("commit", "--quiet", "--allow-empty", "--message", message, folder=folder)
    return git("rev-parse", "HEAD", folder=folder)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of a team, with one commit on main."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "shared"
    git("init", "--quiet", "--initial-branch", "main", str(folder))
    commit("First", folder)
    return folder


@pytest.fixture
def clone(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of it, the working directory."""
    folder = tmp_path / "clone"
    git("clone", "--quiet", str(shared), str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("clone")
def test_with_an_old_main_the_base_is_what_the_branch_was_forked_from(shared: Path) -> None:
    first = git("rev-parse", "HEAD")
    commit("Work", shared)
    theirs = commit("More work of others", shared)
    git("fetch", "--quiet")
    git("switch", "--quiet", "--create", "feature", "origin/main")
    commit("Mine")

    chosen = fork_point.choose(None, None)

    assert chosen.before.commit == theirs
    assert chosen.before.name == f"origin/main at {theirs[:8]}"
    assert chosen.after.commit is None
    assert chosen.others == (
        "This base is the latest fork point. Not taken: main, which forked 2 commits earlier, "
        f"at {first[:8]}. make review BASE=COMMIT compares with another."
    )
    git("checkout", "--quiet", "--detach")
    assert fork_point.choose(None, None).before.commit == theirs
    assert fork_point.choose("", "feature").before.commit == theirs
    assert fork_point.choose("main", None).before.commit == first


@pytest.mark.usefixtures("clone")
def test_in_a_fork_the_base_may_be_of_any_remote(shared: Path, tmp_path: Path) -> None:
    team = tmp_path / "team"
    git("clone", "--quiet", str(shared), str(team))
    theirs = commit("Work of others", team)
    git("remote", "add", "--fetch", "team", str(team))
    git("switch", "--quiet", "--create", "feature", "team/main")
    commit("Mine")
    assert fork_point.choose(None, None).before.name == f"team/main at {theirs[:8]}"


@pytest.mark.usefixtures("clone")
def test_where_main_went_on_the_base_is_the_merge_base(shared: Path) -> None:
    first = git("rev-parse", "HEAD")
    git("switch", "--quiet", "--create", "feature")
    commit("Mine")
    commit("Work", shared)
    git("fetch", "--quiet")
    git("branch", "--force", "main", "origin/main")
    chosen = fork_point.choose(None, None)
    assert chosen.before.name == f"{first[:8]}, the merge base with main"
    assert chosen.others == ""


@pytest.mark.usefixtures("clone")
def test_a_branch_on_another_branch_is_reviewed_against_that() -> None:
    git("switch", "--quiet", "--create", "below")
    below = commit("Below")
    git("switch", "--quiet", "--create", "above", "--track", "below")
    commit("Above")
    assert fork_point.choose(None, None).before.name == f"below at {below[:8]}"


@pytest.mark.usefixtures("clone")
def test_the_copy_that_a_push_makes_of_a_branch_is_not_its_base() -> None:
    first = git("rev-parse", "HEAD")
    git("switch", "--quiet", "--create", "feature")
    commit("Mine")
    git("push", "--quiet", "--set-upstream", "origin", "feature")
    assert fork_point.choose(None, None).before.commit == first


def test_what_a_remote_has_checked_out_is_not_the_base(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = git("rev-parse", "HEAD", folder=shared)
    git("switch", "--quiet", "--create", "feature", folder=shared)
    commit("Mine", shared)
    git("clone", "--quiet", str(shared), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    git("checkout", "--quiet", "--detach", "origin/HEAD")  # which is origin/feature
    assert fork_point.choose(None, None).before.commit == first


@pytest.mark.usefixtures("clone")
def test_unpushed_commits_on_main_itself_are_reviewed() -> None:
    first = git("rev-parse", "HEAD")
    mine = commit("Mine")
    assert fork_point.choose(None, None).before.commit == first
    git("remote", "remove", "origin")
    git("branch", "master", "HEAD~1")  # as a branch that was renamed leaves it
    assert fork_point.choose(None, None).before.commit == mine


@pytest.mark.parametrize("name", ["master", "trunk"])
def test_a_main_branch_may_have_another_name(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    git("branch", "--move", "main", name, folder=shared)
    git("clone", "--quiet", str(shared), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    first = git("rev-parse", "HEAD")
    git("switch", "--quiet", "--create", "feature")
    commit("Mine")
    git("branch", "--force", name, "HEAD~1")
    assert fork_point.choose(None, None).before.commit == first


@pytest.mark.usefixtures("clone")
def test_after_a_merge_of_main_the_base_is_what_was_merged(shared: Path) -> None:
    git("switch", "--quiet", "--create", "feature")
    commit("Mine")
    theirs = commit("Work", shared)
    git("fetch", "--quiet")
    git("merge", "--quiet", "--no-edit", "origin/main")
    assert fork_point.choose(None, None).before.commit == theirs


def test_a_clone_of_one_branch_says_how_to_get_main(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("switch", "--quiet", "--create", "feature", folder=shared)
    commit("Mine", shared)
    git(
        *("clone", "--quiet", "--single-branch", "--branch", "feature"),
        *(str(shared), str(tmp_path / "clone")),
    )
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(SetupError, match="there is no main to compare with") as raised:
        fork_point.choose(None, None)
    assert raised.value.details["found"] == "none of origin"
    advice = raised.value.details["next"].partition(";")[0]
    assert advice == "git fetch origin main:refs/remotes/origin/main"
    git(*advice.split()[1:])
    assert fork_point.choose(None, None).before.commit == git("rev-parse", "HEAD~1")


def test_a_shallow_clone_says_how_to_get_the_history(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = git("rev-parse", "HEAD", folder=shared)
    git("switch", "--quiet", "--create", "feature", folder=shared)
    commit("Mine", shared)
    git("switch", "--quiet", "main", folder=shared)
    commit("Work", shared)
    git("switch", "--quiet", "feature", folder=shared)
    git(
        *("clone", "--quiet", "--depth", "1", "--no-single-branch"),
        *(f"file://{shared}", str(tmp_path / "clone")),
    )
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(SetupError, match="there is no merge base with origin/main") as raised:
        fork_point.choose(None, None)
    assert raised.value.details["next"].startswith("git fetch --unshallow; ")
    # Another candidate has one: the page says what the review could not look at.
    git("branch", "master", "HEAD")
    chosen = fork_point.choose(None, None)
    assert chosen.before.name.startswith("master at ")
    assert "origin/main, which has no common commit in this shallow clone" in chosen.others
    git("branch", "-D", "master")
    git("fetch", "--quiet", "--unshallow")
    assert fork_point.choose(None, None).before.commit == first


@pytest.mark.usefixtures("clone")
def test_unrelated_histories_are_said_to_be_so() -> None:
    git("switch", "--quiet", "--orphan", "feature")
    commit("From nothing")
    with pytest.raises(SetupError, match="no merge base with main, origin/main") as raised:
        fork_point.choose(None, None)
    assert raised.value.details["found"] == "no common commit"
