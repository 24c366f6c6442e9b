"""What a good reviewer would warn of before anyone believes a difference."""

from typing import Any

from core.pipeline.errors import DataError
from tools.repository import freshness, git, snapshots
from tools.repository.snapshots import Snapshot
from tools.review import formatting, results
from tools.review.seed_runs import Spread


def staleness(snapshot: Snapshot) -> list[str]:
    """Warn if the metrics are not those of the code beside them."""
    if snapshot.read(freshness.PIPELINE) is None:
        return [f"There is no {freshness.PIPELINE} in {snapshot.name}."]
    found = freshness.findings(snapshot)
    if not found:
        return []
    named = formatting.listed(list(dict.fromkeys(what for _, what, _ in found)))
    return [
        f"{freshness.LOCK} of {snapshot.name} does not belong to its code and parameters: "
        f"{named} moved since. Its metrics are those of another state; dvc repro makes them anew."
    ]


def uncommitted(working_tree: Snapshot) -> list[str]:
    """Warn if what is reviewed is not what is committed: only the commit gets merged."""
    head = snapshots.revision("HEAD")
    moved = [
        name
        for name in sorted({*head.files(), *working_tree.files()})
        if (name == freshness.LOCK or name.startswith("metrics/"))
        and head.read(name) != working_tree.read(name)
    ]
    if not moved:
        return []
    return [f"Reviewed is the working tree, and not committed are: {formatting.listed(moved)}."]


def chosen_on_test(before: Snapshot, after: Snapshot) -> list[str]:
    """Warn if the test set was looked at again and again while parameters were tried."""
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
        f"({formatting.listed(tries)}). The best of several tries flatters itself: choose by the "
        "validation set, and look at the test set once."
    ]


def within_spread(spread: Spread | None, moved_by: float | None) -> list[str]:
    """Warn if another seed alone does as much, as far as saved experiments tell.

    Args:
        spread: of the two recipes, if there are any.
        moved_by: the change of validation accuracy, if it can be compared.
    """
    if spread is None or moved_by is None or abs(moved_by) > spread.limit:
        return []
    return [
        f"The change lies within the spread of seeds: {spread.runs} runs of these recipes are "
        "known, and two that differ by their seed alone differ by up to "
        f"{formatting.points(spread.limit)[1:]} points of validation accuracy (95 %). "
        f"This change is {formatting.points(moved_by)}."
    ]


def _tried(parent: Snapshot, state: Snapshot) -> bool:
    return parent.read(results.TEST) != state.read(results.TEST) and _params(parent) != _params(
        state
    )


def _params(snapshot: Snapshot) -> Any:
    try:
        return snapshot.yaml(freshness.PARAMS)
    except DataError:  # a commit on the way may hold anything
        return snapshot.read(freshness.PARAMS)
