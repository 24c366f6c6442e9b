"""Sends the experiments of a commit to a git remote, and gets those that others sent.

`dvc exp push` and `dvc exp pull` do it for those that finished; here the diverged
ones go along, so that nobody trains them again. Two people may have run the same
experiment: if both found the same, it is there already; if not, each keeps their own,
and it is said.
"""

from collections.abc import Mapping
from typing import NamedTuple

from core.pipeline.errors import SetupError
from tools.experiments.store import DIVERGED, FINISHED
from tools.repository import git


class Exchanged(NamedTuple):
    """Which experiments went over, by their names."""

    moved: list[str]
    there: list[str]  # already
    different: list[str]  # of the same name, with other results


def names_of(git_remote: str) -> dict[str, str]:
    """Return all that a git remote has, each with its commit.

    Raises:
        SetupError: there is no such remote, or it cannot be read.
    """
    known = git.run("remote").decode().split()
    if git_remote not in known:
        raise SetupError(
            f"this repository knows no git remote {git_remote}",
            expected=f"one of {', '.join(known)}" if known else "git remote add origin ADDRESS",
            todo="experiments and commits are shared by git: clone the team's repository, or\n"
            "name its remote: --git-remote NAME",
        )
    try:
        listed = git.run("ls-remote", git_remote).decode().splitlines()
    except SetupError as error:
        raise _away(git_remote, error) from None
    return {name: commit for commit, _, name in (line.partition("\t") for line in listed)}


def has(names: Mapping[str, str], commit: str) -> bool:
    """Say whether a branch or a tag of a git remote has a commit, as far as is known here."""
    tips = {tip for name, tip in names.items() if name.startswith(("refs/heads/", "refs/tags/"))}
    known = [tip for tip in tips if git.exists(tip)]
    return any(tip == commit or git.merge_base(commit, tip) == commit for tip in known)


def send(git_remote: str, there: Mapping[str, str], commit: str, *, force: bool) -> Exchanged:
    """Send the experiments of `commit`.

    Args:
        git_remote: where they go.
        there: what it has, as `names_of` says.
        commit: that they started from.
        force: replace those that are different there.
    """
    ours, theirs = here(commit), _of(there, commit)
    _fetch(git_remote, [ref for ref in ours.keys() & theirs.keys() if ours[ref] != theirs[ref]])
    exchanged, refs = _compared(ours, theirs, force)
    if refs:
        try:
            git.run("push", "--quiet", git_remote, *(f"+{ours[ref]}:{ref}" for ref in refs))
        except SetupError as error:
            raise SetupError(
                f"{git_remote} does not take the experiments",
                found=error.details["found"],
                todo="git push has to work there; then the same command again",
            ) from None
    return exchanged


def get(git_remote: str, there: Mapping[str, str], commit: str, *, force: bool) -> Exchanged:
    """Get the experiments of `commit`; the arguments are those of `send`."""
    ours, theirs = here(commit), _of(there, commit)
    _fetch(git_remote, [ref for ref in theirs if ours.get(ref) != theirs[ref]])
    exchanged, refs = _compared(theirs, ours, force)
    for ref in refs:
        git.run("update-ref", ref, theirs[ref])
    return exchanged


def _compared(
    source: Mapping[str, str], target: Mapping[str, str], force: bool
) -> tuple[Exchanged, list[str]]:
    """Sort experiments by what has to be done with them, and list the refs to move."""
    exchanged, refs = Exchanged([], [], []), []
    for ref in sorted(source):
        name = ref.split("/", 4)[4]
        if ref not in target or (force and not _same(source[ref], target[ref])):
            exchanged.moved.append(name)
            refs.append(ref)
        elif _same(source[ref], target[ref]):
            exchanged.there.append(name)
        else:
            exchanged.different.append(name)
    return exchanged, refs


def _same(one: str, other: str) -> bool:
    """Say whether two experiments are the same files, whoever ran them and when."""
    return one == other or (
        git.line("rev-parse", f"{one}^{{tree}}") == git.line("rev-parse", f"{other}^{{tree}}")
    )


def here(commit: str = "") -> dict[str, str]:
    """Return the experiments in this repository, each with its commit.

    Args:
        commit: that they started from; empty for those of all commits.
    """
    below = _below(commit) if commit else (f"{FINISHED}/??/*/*", f"{DIVERGED}/??/*/*")
    listed = git.run("for-each-ref", "--format=%(refname) %(objectname)", *below)
    return dict(line.split(" ", 1) for line in listed.decode().splitlines())


def _of(names: Mapping[str, str], commit: str) -> dict[str, str]:
    return {ref: tip for ref, tip in names.items() if ref.startswith(_below(commit))}


def _below(commit: str) -> tuple[str, str]:
    return (
        f"{FINISHED}/{commit[:2]}/{commit[2:]}/",
        f"{DIVERGED}/{commit[:2]}/{commit[2:]}/",
    )


def _fetch(git_remote: str, refs: list[str]) -> None:
    """Get the commits of experiments, without giving them a name here."""
    if refs:
        try:
            git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", git_remote, *refs)
        except SetupError as error:
            raise _away(git_remote, error) from None


def _away(git_remote: str, error: SetupError) -> SetupError:
    return SetupError(
        f"the git remote {git_remote} cannot be read",
        found=error.details["found"],
        where=git.line("remote", "get-url", git_remote),
        todo="git fetch has to work there; then the same command again",
    )
