"""Reasons to distrust a difference of the metrics."""

from typing import Any

from core.pipeline import wording
from core.pipeline.errors import DataError
from tools.repository import freshness, git, snapshots
from tools.repository.snapshots import Snapshot
from tools.review import changes, formatting, results
from tools.review.seed_runs import Spread


def staleness(snapshot: Snapshot) -> list[str]:
    """Warn if the metrics do not belong to the code."""
    if snapshot.read(freshness.PIPELINE) is None:
        return [f"There is no {freshness.PIPELINE} in {snapshot.name}."]
    found = freshness.findings(snapshot)
    if not found:
        return []
    named = wording.listed(list(dict.fromkeys(what for _, what, _ in found)))
    return [
        f"{freshness.LOCK} of {snapshot.name} does not belong to its code and parameters: "
        f"{named} changed since. Its metrics belong to another state; dvc repro updates them."
    ]


def uncommitted(working_tree: Snapshot) -> list[str]:
    """Warn if what a result depends on, or the result, differs from the commit.

    Only what is committed is merged.
    """
    head = snapshots.revision("HEAD")
    metrics = {name for name in head.files() + working_tree.files() if name.startswith("metrics/")}
    # The code first: a list names only the first few.
    names = [*changes.code(working_tree), freshness.PARAMS, changes.PACKAGES, freshness.LOCK]
    changed = [
        name for name in [*names, *sorted(metrics)] if head.read(name) != working_tree.read(name)
    ]
    if not changed:
        return []
    return [f"The review is of the working tree. Not committed: {wording.listed(changed)}."]


def chosen_on_test(before: Snapshot, after: Snapshot) -> list[str]:
    """Warn if several parameters were tried on the test set."""
    listed = git.run("rev-list", "--no-merges", f"{before.commit}..{after.commit or 'HEAD'}")
    states = [(snapshots.revision(commit), f"{commit}~1") for commit in listed.decode().split()]
    if after.commit is None:
        states.insert(0, (after, "HEAD"))
    tries = [
        state.name
        for state, parent_name in states
        if git.exists(parent_name) and _tried(snapshots.revision(parent_name), state)
    ]
    if len(tries) < 2:
        return []
    return [
        "The test set may have been used to choose: "
        f"{len(tries)} states of the branch changed parameters and the test metrics with them "
        f"({wording.listed(tries)}). The best of several tries looks better than it is: choose "
        "by the validation set, and use the test set once."
    ]


def within_spread(spread: Spread | None, val_change: float | None) -> list[str]:
    """Warn if other seeds differ as much, according to saved experiments.

    Args:
        spread: of the two recipes, if there are any.
        val_change: the change of validation accuracy, if it can be compared.
    """
    if spread is None or val_change is None or abs(val_change) > spread.limit:
        return []
    return [
        f"The change is within the spread of seeds: {spread.runs} runs of these recipes are "
        "known, and two that differ only in the seed differ by up to "
        f"{formatting.points(spread.limit)[1:]} points of validation accuracy (95 %). "
        f"This change is {formatting.points(val_change)}."
    ]


def _tried(parent: Snapshot, state: Snapshot) -> bool:
    return parent.read(results.TEST) != state.read(results.TEST) and _params(parent) != _params(
        state
    )


def _params(snapshot: Snapshot) -> Any:
    try:
        return snapshot.yaml(freshness.PARAMS)
    except DataError:  # an intermediate commit may contain anything
        return snapshot.read(freshness.PARAMS)
