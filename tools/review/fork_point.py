"""Chooses base and head of a review.

Which branch a change was forked from is recorded nowhere, and a name says little: a local
`main` may be old, and so may be the `origin/main` of a fork. With an old one, the review
would credit the branch with the work of others. So every branch that may be the origin is
asked where it and the head forked, and the latest fork is the base.
"""

from typing import NamedTuple

from core.pipeline import wording
from core.pipeline.errors import SetupError
from tools.repository import git, snapshots
from tools.repository.snapshots import Snapshot

MAINS = ("main", "master")
LOCAL, REMOTE = "refs/heads/", "refs/remotes/"


class Choice(NamedTuple):
    """What a review compares."""

    before: Snapshot
    after: Snapshot
    others: str  # a sentence on the branches that forked earlier; empty if there are none


class Fork(NamedTuple):
    """Where the head left a branch."""

    branch: str  # the full name of its reference
    commit: str
    since: int  # how many commits the head has had since


def choose(base: str | None, head: str | None) -> Choice:
    """Return what to compare.

    Args:
        base: a revision; None for the latest fork point.
        head: a revision; None for the working tree.

    Raises:
        SetupError: there is no such revision, or nothing to compare with.
    """
    after = snapshots.revision(head) if head else snapshots.working_tree()
    if base:
        return Choice(snapshots.revision(base), after, "")
    commit = after.commit or git.commit_of("HEAD")
    branch = _branch(head)
    candidates = _candidates(branch)
    forks = [fork for name in candidates for fork in _forks(name, commit)]
    # Commits on main itself are reviewed against the main of a remote, if there is one.
    elsewhere = [fork for fork in forks if fork.branch != branch]
    if any(fork.branch.startswith(REMOTE) for fork in elsewhere):
        forks = elsewhere
    if not forks:
        raise _no_base(candidates)
    latest = min(forks, key=lambda fork: fork.since)  # the first of several
    name, short = _short(latest.branch), latest.commit[:8]
    at_tip = latest.commit == candidates[latest.branch]
    name = f"{name} at {short}" if at_tip else f"{short}, the merge base with {name}"
    return Choice(Snapshot(name, latest.commit), after, _others(latest, forks, candidates, branch))


def _branch(head: str | None) -> str | None:
    """Return the full name of the branch that is reviewed; None for another commit."""
    if head is None:
        try:
            return git.line("symbolic-ref", "--quiet", "HEAD")
        except SetupError:  # detached
            return None
    return LOCAL + head if git.exists(LOCAL + head) else None


def _candidates(branch: str | None) -> dict[str, str]:
    """Return each branch that the head may have been forked from, with its commit.

    Args:
        branch: the full name of the branch that is reviewed; None for another commit.
    """
    places = [LOCAL, *(f"{REMOTE}{name}/" for name in _lines("remote"))]
    found = _commits([place + name for place in places for name in MAINS])
    # A remote without a main has a default branch of another name. Where there is a main, the
    # default may be what somebody happens to have checked out there.
    others = [place for place in places[1:] if not any(place + name in found for name in MAINS)]
    wanted = _listed("%(symref)", [f"{place}HEAD" for place in others])
    if branch:
        wanted += _listed("%(upstream)", [branch])
        if _short(branch) not in MAINS:  # the copies that `git push` makes of it
            copies = {place + _short(branch) for place in places}
            wanted = [name for name in wanted if name not in copies]
    return found | _commits(wanted)


def _commits(names: list[str]) -> dict[str, str]:
    """Return the commits of those references that exist, in the order of `names`."""
    pairs = dict(pair.split() for pair in _listed("%(refname) %(objectname)", names))
    return {name: pairs[name] for name in names if name in pairs}


def _listed(what: str, references: list[str]) -> list[str]:
    # Without a reference, git would list all.
    return _lines("for-each-ref", f"--format={what}", *references) if references else []


def _lines(*arguments: str) -> list[str]:
    return [line for line in git.run(*arguments).decode().splitlines() if line.strip()]


def _forks(branch: str, head: str) -> list[Fork]:
    """Return where `head` left a branch: several commits after a crossed merge, or none."""
    try:
        commits = _lines("merge-base", "--all", branch, head)
    except SetupError:
        return []
    return [
        Fork(branch, commit, int(git.line("rev-list", "--count", f"{commit}..{head}")))
        for commit in commits
    ]


def _others(latest: Fork, forks: list[Fork], candidates: dict[str, str], branch: str | None) -> str:
    """Name the branches that would have led to another base."""
    same = {fork.branch for fork in forks if fork.commit == latest.commit}
    said = [
        f"{_short(fork.branch)}, which forked "
        f"{wording.count(fork.since - latest.since, 'commit')} earlier, at {fork.commit[:8]}"
        for fork in forks
        if fork.branch not in same
    ]
    apart = set(candidates) - {fork.branch for fork in forks} - {branch}
    where = "in this shallow clone" if apart and git.is_shallow() else "with it"
    said += [f"{_short(name)}, which has no common commit {where}" for name in sorted(apart)]
    if not said:
        return ""
    return (
        f"This base is the latest fork point. Not taken: {'; '.join(said)}. "
        "make review BASE=COMMIT compares with another."
    )


def _no_base(candidates: dict[str, str]) -> SetupError:
    named = "name what to compare with: make review BASE=COMMIT"
    if not candidates:
        remotes = _lines("remote")
        # A plain `git fetch origin main` creates no branch in a clone of a single one.
        fetch = [f"git fetch {name} main:{REMOTE}{name}/main" for name in remotes[:1]]
        return SetupError(
            "there is no main to compare with",
            expected=f"a branch {' or '.join(MAINS)}, here or of a remote, or an upstream",
            found=f"none of {wording.listed(remotes)}" if remotes else "no remote",
            todo="; or ".join([*fetch, named]),
        )
    names = wording.listed([_short(name) for name in candidates])
    shallow = git.is_shallow()
    return SetupError(
        f"there is no merge base with {names}",
        found="a shallow clone, whose history is truncated" if shallow else "no common commit",
        todo=f"git fetch --unshallow; or {named}" if shallow else named,
    )


def _short(name: str) -> str:
    return name.removeprefix(LOCAL).removeprefix(REMOTE)
