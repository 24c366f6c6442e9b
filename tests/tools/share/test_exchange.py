"""Experiments are exchanged over git, and none are lost where two differ."""

import subprocess
from pathlib import Path

import pytest

from core.pipeline.errors import SetupError
from tools.repository import git
from tools.share import exchange
from tools.share.exchange import Exchanged

BASELINE = "1" * 40  # only the name of an experiment matters
FINISHED = f"refs/exps/11/{'1' * 38}"
DIVERGED = f"refs/diverged/11/{'1' * 38}"


class Person:
    """A clone of the team's repository."""

    def __init__(self, folder: Path, origin: Path) -> None:
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main", str(folder), cwd=folder.parent)
        self.git("remote", "add", "origin", str(origin))

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=cwd or self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def compute(self, ref: str, accuracy: str, seconds: int = 1) -> str:
        """Keep an experiment that found an accuracy."""
        (self.folder / "metrics").write_text(accuracy)
        self.git("add", "metrics")
        tree = self.git("write-tree")
        commit = self.git("commit-tree", tree, "-m", f"Seconds: {seconds}")
        self.git("update-ref", ref, commit)
        return commit


@pytest.fixture
def people(tmp_path: Path) -> tuple[Person, Person]:
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(origin)], check=True)
    return Person(tmp_path / "ana", origin), Person(tmp_path / "ben", origin)


def send(person: Person, monkeypatch: pytest.MonkeyPatch, *, force: bool = False) -> Exchanged:
    monkeypatch.chdir(person.folder)
    return exchange.send("origin", exchange.names_of("origin"), BASELINE, force=force)


def get(person: Person, monkeypatch: pytest.MonkeyPatch, *, force: bool = False) -> Exchanged:
    monkeypatch.chdir(person.folder)
    return exchange.get("origin", exchange.names_of("origin"), BASELINE, force=force)


def test_finished_and_diverged_experiments_go_over_once(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = people
    refs = {
        f"{FINISHED}/lr-1": ana.compute(f"{FINISHED}/lr-1", "0.9"),
        f"{DIVERGED}/lr-9": ana.compute(f"{DIVERGED}/lr-9", "none"),
    }
    ana.compute(f"refs/exps/22/{'2' * 38}/lr-1", "of another commit")
    assert send(ana, monkeypatch) == Exchanged(["lr-9", "lr-1"], [], [])
    assert send(ana, monkeypatch) == Exchanged([], ["lr-9", "lr-1"], [])
    assert get(ben, monkeypatch) == Exchanged(["lr-9", "lr-1"], [], [])
    assert exchange.local_refs() == refs
    assert get(ben, monkeypatch) == Exchanged([], ["lr-9", "lr-1"], [])


def test_the_same_results_of_two_people_are_no_conflict(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = people
    ana.compute(f"{FINISHED}/lr-1", "0.9", seconds=1)
    own = ben.compute(f"{FINISHED}/lr-1", "0.9", seconds=2)
    send(ana, monkeypatch)
    assert get(ben, monkeypatch) == Exchanged([], ["lr-1"], [])
    assert send(ben, monkeypatch) == Exchanged([], ["lr-1"], [])
    assert exchange.local_refs() == {f"{FINISHED}/lr-1": own}


def test_where_results_differ_each_keeps_theirs_until_forced(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = people
    hers = ana.compute(f"{FINISHED}/lr-1", "0.9")
    his = ben.compute(f"{FINISHED}/lr-1", "0.8")
    send(ana, monkeypatch)
    assert get(ben, monkeypatch) == send(ben, monkeypatch) == Exchanged([], [], ["lr-1"])
    assert exchange.local_refs() == {f"{FINISHED}/lr-1": his}
    assert exchange.names_of("origin") == {f"{FINISHED}/lr-1": hers}
    assert send(ben, monkeypatch, force=True) == Exchanged(["lr-1"], [], [])
    assert exchange.names_of("origin") == {f"{FINISHED}/lr-1": his}
    assert get(ana, monkeypatch, force=True) == Exchanged(["lr-1"], [], [])
    assert exchange.local_refs() == {f"{FINISHED}/lr-1": his}


def test_a_commit_is_there_if_a_branch_has_it(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, _ = people
    monkeypatch.chdir(ana.folder)
    for number in range(2):
        (ana.folder / "code").write_text(str(number))
        ana.git("add", "code")
        ana.git("commit", "--quiet", "--message", str(number))
    ana.git("push", "--quiet", "origin", "HEAD~1:refs/heads/main")
    names = exchange.names_of("origin")
    assert exchange.has(names, git.commit_of("HEAD~1"))
    assert not exchange.has(names, git.commit_of("HEAD"))


def test_a_git_remote_that_is_away_or_unknown_is_named(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, _ = people
    monkeypatch.chdir(ana.folder)
    with pytest.raises(SetupError, match="has no git remote team") as unknown:
        exchange.names_of("team")
    assert unknown.value.details["expected"] == "one of origin"
    ana.git("remote", "set-url", "origin", str(ana.folder.parent / "gone.git"))
    with pytest.raises(SetupError, match="the git remote origin cannot be read") as away:
        exchange.names_of("origin")
    assert away.value.details["where"] == str(ana.folder.parent / "gone.git")
