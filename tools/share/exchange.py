"""Sends the experiments of a commit to a git remote, and gets those of others.

`dvc exp push` and `dvc exp pull` do this for finished experiments. Here diverged ones are
included, so that nobody trains them again. If two people ran the same experiment and
the results are equal, it counts as existing; if not, both keep their own, and a message
says so.
"""

from collections.abc import Mapping
from typing import NamedTuple

from core.pipeline.errors import SetupError
from tools.experiments.store import DIVERGED, FINISHED
from tools.repository import git


class Exchanged(NamedTuple):
    """The names of experiments, by what happened to them."""

    moved: list[str]
    existing: list[str]  # with the same results
    different: list[str]  # existing, with other results


def names_of(git_remote: str) -> dict[str, str]:
    """Return the refs of a git remote, each with its commit.

    Raises:
        SetupError: there is no such remote, or it cannot be read.
    """
    known = git.run("remote").decode().split()
    if git_remote not in known:
        raise SetupError(
            f"this repository has no git remote {git_remote}",
            expected=f"one of {', '.join(known)}" if known else "git remote add origin ADDRESS",
            todo="experiments and commits are shared by git: clone the team's repository, or\n"
            "name its remote: --git-remote NAME",
        )
    try:
        listed = git.run("ls-remote", git_remote).decode().splitlines()
    except SetupError as error:
        raise _unreachable(git_remote, error) from None
    return {name: commit for commit, _, name in (line.partition("\t") for line in listed)}


def has(names: Mapping[str, str], commit: str) -> bool:
    """Say whether a branch or a tag of a git remote has a commit, as far as is known locally."""
    tips = {tip for name, tip in names.items() if name.startswith(("refs/heads/", "refs/tags/"))}
    known = [tip for tip in tips if git.exists(tip)]
    return any(tip == commit or git.merge_base(commit, tip) == commit for tip in known)


def send(git_remote: str, remote_refs: Mapping[str, str], commit: str, *, force: bool) -> Exchanged:
    """Send the experiments of `commit`.

    Args:
        git_remote: the remote.
        remote_refs: its refs, as `names_of` returns them.
        commit: that the experiments started from.
        force: replace those that are different on the remote.
    """
    ours, theirs = local_refs(commit), _of(remote_refs, commit)
    _fetch(git_remote, [ref for ref in ours.keys() & theirs.keys() if ours[ref] != theirs[ref]])
    exchanged, refs = _compared(ours, theirs, force)
    if refs:
        try:
            git.run("push", "--quiet", git_remote, *(f"+{ours[ref]}:{ref}" for ref in refs))
        except SetupError as error:
            raise SetupError(
                f"{git_remote} rejects the experiments",
                found=error.details["found"],
                todo="make git push work, then run the same command again",
            ) from None
    return exchanged


def get(git_remote: str, remote_refs: Mapping[str, str], commit: str, *, force: bool) -> Exchanged:
    """Get the experiments of `commit`; the arguments are those of `send`."""
    ours, theirs = local_refs(commit), _of(remote_refs, commit)
    _fetch(git_remote, [ref for ref in theirs if ours.get(ref) != theirs[ref]])
    exchanged, refs = _compared(theirs, ours, force)
    for ref in refs:
        git.run("update-ref", ref, theirs[ref])
    return exchanged


def _compared(
    source: Mapping[str, str], target: Mapping[str, str], force: bool
) -> tuple[Exchanged, list[str]]:
    """Compare experiments, and list the refs to transfer."""
    exchanged, refs = Exchanged([], [], []), []
    for ref in sorted(source):
        name = ref.split("/", 4)[4]
        if ref not in target or (force and not _same(source[ref], target[ref])):
            exchanged.moved.append(name)
            refs.append(ref)
        elif _same(source[ref], target[ref]):
            exchanged.existing.append(name)
        else:
            exchanged.different.append(name)
    return exchanged, refs


def _same(one: str, other: str) -> bool:
    """Say whether two experiments have the same files, whoever ran them and when."""
    return one == other or (
        git.line("rev-parse", f"{one}^{{tree}}") == git.line("rev-parse", f"{other}^{{tree}}")
    )


def local_refs(commit: str = "") -> dict[str, str]:
    """Return the refs of the experiments in this repository, each with its commit.

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
    """Fetch the commits of experiments without creating refs."""
    if refs:
        try:
            git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", git_remote, *refs)
        except SetupError as error:
            raise _unreachable(git_remote, error) from None


def _unreachable(git_remote: str, error: SetupError) -> SetupError:
    return SetupError(
        f"the git remote {git_remote} cannot be read",
        found=error.details["found"],
        where=git.line("remote", "get-url", git_remote),
        todo="make git fetch work, then run the same command again",
    )
