"""Reviews what a branch does to the metrics, and whether it is more than noise.

    python -m tools.review                 the working tree against where it left main
    python -m tools.review main my-branch  any two commits
    python -m tools.review --seeds 5       train five seeds of each side: is the recipe better?

Reads:  from git the parameters, the metrics, the predictions and dvc.lock of
        both sides; data/raw/test_images.npy, if it is there, for the pictures
Writes: reports/review.md, for the pull request's page;
        reports/review.html, the same with pictures
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.runner import run
from core.report import pages
from tools.repository import git, snapshots
from tools.repository.snapshots import Snapshot
from tools.review import changes, figures, formatting, results, seed_runs, verdict, warnings
from tools.review.results import Set, Side
from tools.review.verdict import Compared

MARKDOWN = Path("reports/review.md")
PAGE = Path("reports/review.html")
MARKDOWN_TEMPLATE = Path("tools/review/review.md.j2")
PAGE_TEMPLATE = Path("tools/review/review.html.j2")

MAIN = ("main", "origin/main")  # where branches leave from; a runner may know only the second


class Metric(NamedTuple):
    """A row of the table of metrics."""

    name: str
    before: float | None
    after: float | None
    compared: Compared | None  # image by image, if it is an accuracy of comparable images

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return "accuracy" in self.name

    @property
    def change(self) -> str:
        """By how much it moved; nothing where a side lacks it."""
        if self.before is None or self.after is None:
            return ""
        if self.compared:
            return formatting.points(self.compared.difference.mean)
        return formatting.change(self.after - self.before, is_share=self.is_share)


def choose(base: str | None, head: str | None) -> tuple[Snapshot, Snapshot]:
    """Find the two sides of the review.

    Args:
        base: a revision; None is where the branch left main.
        head: a revision; None is the working tree.

    Raises:
        SetupError: there is no such revision, or no main to compare with.
    """
    after = snapshots.revision(head) if head else snapshots.working_tree()
    if base:
        return snapshots.revision(base), after
    git.run("rev-parse", "--git-dir")  # says so where there is no repository
    main = next((name for name in MAIN if git.exists(name)), None)
    if main is None:
        raise SetupError(
            "there is no main to compare with",
            expected=f"a branch {' or '.join(MAIN)}",
            todo="git fetch origin main; or name what to compare with: python -m tools.review BASE",
        )
    left = git.merge_base(main, after.commit or "HEAD")
    if left is None:
        raise SetupError(
            f"nothing shows where the branch left {main}",
            found="a shallow clone: its history is cut off"
            if git.is_shallow()
            else f"no commit that {main} and the branch share",
            todo="git fetch --unshallow"
            if git.is_shallow()
            else "name what to compare with: python -m tools.review BASE",
        )
    at_tip = left == git.commit_of(main)
    place = f"{main} at {left[:8]}" if at_tip else f"{left[:8]}, where the branch left {main}"
    return Snapshot(place, left), after


def metrics(before: Side, after: Side, compared: dict[Set, Compared]) -> list[Metric]:
    """Put the metrics of both sides beside each other, those of the test set first."""
    # Said elsewhere, or the ends of an interval.
    hidden = {"test accuracy low", "test accuracy high", "test images"}
    hidden |= {"test above val low", "test above val high"}
    names = [name for name in {**after.metrics, **before.metrics} if name not in hidden]
    names.sort(key=lambda name: ([not name.startswith(which) for which in results.SETS], name))
    by_name = {f"{which} accuracy": found for which, found in compared.items()}
    return [
        Metric(name, before.metrics.get(name), after.metrics.get(name), by_name.get(name))
        for name in names
    ]


def gather(before: Side, after: Side, seeds: int | None) -> dict[str, Any]:
    """Collect everything that the two templates say."""
    obstacle = verdict.whole_obstacle(before, after)
    other_images = obstacle is not None and not obstacle.missing
    obstacles = {which: verdict.obstacle(before, after, which) for which in results.SETS}
    compared = {
        which: verdict.compare(before.predictions[which], after.predictions[which])
        for which, found in obstacles.items()
        if found is None and not other_images
    }
    trained = None
    if seeds and not other_images:
        trained = seed_runs.train(before.snapshot, after.snapshot, seeds)
    test = compared.get("test")
    one_recipe = seed_runs.one(before.snapshot, after.snapshot)
    found = verdict.headline(test, trained, obstacle, one_recipe=one_recipe)
    spread = seed_runs.saved_spread(before.snapshot, after.snapshot)
    moved_by = compared["validation"].difference.mean if "validation" in compared else None
    said = [
        *warnings.staleness(before.snapshot),
        *warnings.staleness(after.snapshot),
        *([] if after.snapshot.commit else warnings.uncommitted(after.snapshot)),
        *warnings.chosen_on_test(before.snapshot, after.snapshot),
        *warnings.within_spread(spread, moved_by),
    ]
    changed = changes.between(before.snapshot, after.snapshot)
    drawn, no_pictures = figures.draw(before, after, test) if test else ({}, "")
    return {
        "verdict": found,
        "before": before,
        "after": after,
        "warnings": said,
        "changes": changed,
        "files": formatting.listed(
            [
                formatting.count(len(some), what)
                for some, what in (
                    (changed.code, "file of code"),
                    (changed.outputs, "output"),
                    (changed.packages, "package"),
                )
                if some
            ]
        ),
        "metrics": metrics(before, after, compared),
        "obstacles": [found.text for found in obstacles.values() if found],
        "test": test,
        "classes": verdict.by_class(test, after) if test else [],
        "trained": trained,
        "one_recipe": one_recipe,
        "spread": spread,
        "charts": figures.charts(before, after),
        "pictures": drawn,
        "no_pictures": no_pictures,
        "formatting": formatting,
    }


def main(base: str | None, head: str | None, seeds: int | None) -> None:
    """Review one side against the other and write it down."""
    before, after = (results.read(snapshot) for snapshot in choose(base, head))
    facts = gather(before, after, seeds)
    for template, path in ((MARKDOWN_TEMPLATE, MARKDOWN), (PAGE_TEMPLATE, PAGE)):
        files.write_text(path, pages.render(template.read_text(encoding="utf-8"), **facts))
    print(facts["verdict"].line)
    print(f"review: {MARKDOWN}, and with pictures {PAGE}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two sides and the number of seeds."""
    parser.add_argument("base", nargs="?", help="default: where the branch left main")
    parser.add_argument("head", nargs="?", help="default: the working tree")
    parser.add_argument("--seeds", type=_seeds, metavar="K", help="train K seeds of each side")


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number from 2 on, found {text}")
    return int(text)


if __name__ == "__main__":
    run(main, add_arguments)
