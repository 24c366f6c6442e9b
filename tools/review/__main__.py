"""Reviews how a branch changes the metrics, and whether the change is more than noise.

    python -m tools.review                 the working tree against where it forked from main
    python -m tools.review main my-branch  any two commits
    python -m tools.review --seeds 5       compare the recipes by five seeds each

Reads:  from git the parameters, the metrics, the predictions and dvc.lock of base and
        head; data/raw/test_images.npy, if it exists, for the pictures
Writes: reports/review.md, for the page of a pull request;
        reports/review.html, the same with pictures
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from core.pipeline import files, wording
from core.pipeline.runner import run
from core.report import pages
from tools.review import (
    changes,
    figures,
    fork_point,
    formatting,
    results,
    seed_runs,
    verdict,
    warnings,
)
from tools.review.results import ModelResults, Set
from tools.review.verdict import Compared

MARKDOWN = Path("reports/review.md")
PAGE = Path("reports/review.html")
MARKDOWN_TEMPLATE = Path("tools/review/review.md.j2")
PAGE_TEMPLATE = Path("tools/review/review.html.j2")


class Metric(NamedTuple):
    """A row of the table of metrics."""

    name: str
    before: float | None
    after: float | None
    compared: Compared | None  # image by image, for accuracies on the same images

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent."""
        return "accuracy" in self.name

    @property
    def change(self) -> str:
        """The change; empty if base or head lacks the metric."""
        if self.before is None or self.after is None:
            return ""
        if self.compared:
            return formatting.points(self.compared.difference.mean)
        return formatting.change(self.after - self.before, is_share=self.is_share)


def metrics(
    before: ModelResults, after: ModelResults, compared: dict[Set, Compared]
) -> list[Metric]:
    """Pair the metrics of base and head, those of the test set first."""
    # Shown elsewhere, or ends of an interval.
    hidden = {"test accuracy low", "test accuracy high", "test images"}
    hidden |= {"test above val low", "test above val high"}
    names = [name for name in {**after.metrics, **before.metrics} if name not in hidden]
    names.sort(key=lambda name: ([not name.startswith(which) for which in results.SETS], name))
    by_name = {f"{which} accuracy": found for which, found in compared.items()}
    return [
        Metric(name, before.metrics.get(name), after.metrics.get(name), by_name.get(name))
        for name in names
    ]


def gather(chosen: fork_point.Choice, seeds: int | None) -> dict[str, Any]:
    """Collect everything that the two templates show."""
    before, after = results.read(chosen.before), results.read(chosen.after)
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
    val_change = compared["validation"].difference.mean if "validation" in compared else None
    all_warnings = [
        *warnings.staleness(before.snapshot),
        *warnings.staleness(after.snapshot),
        *([] if after.snapshot.commit else warnings.uncommitted(after.snapshot)),
        *warnings.chosen_on_test(before.snapshot, after.snapshot),
        *warnings.within_spread(spread, val_change),
    ]
    changed = changes.between(before.snapshot, after.snapshot)
    drawn, no_pictures = figures.draw(before, after, test) if test else ({}, "")
    return {
        "verdict": found,
        "before": before,
        "after": after,
        "other_bases": chosen.others,
        "warnings": all_warnings,
        "changes": changed,
        "files": wording.listed(
            [
                wording.count(len(some), what)
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
        "wording": wording,
    }


def main(base: str | None, head: str | None, seeds: int | None) -> None:
    """Compare base and head, and write the review."""
    chosen = fork_point.choose(base, head)
    facts = gather(chosen, seeds)
    for template, path in ((MARKDOWN_TEMPLATE, MARKDOWN), (PAGE_TEMPLATE, PAGE)):
        files.write_text(path, pages.render(template.read_text(encoding="utf-8"), **facts))
    print(facts["verdict"].line)
    print(f"base: {chosen.before.name}")
    if chosen.others:
        print(chosen.others)
    print(f"review: {MARKDOWN}, and with pictures {PAGE}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add base, head and the number of seeds."""
    parser.add_argument("base", nargs="?", help="default, or if empty: where head forked from main")
    parser.add_argument("head", nargs="?", help="default: the working tree")
    parser.add_argument("--seeds", type=_seeds, metavar="K", help="train K seeds of base and head")


def _seeds(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a whole number from 2 on, found {text}")
    return int(text)


if __name__ == "__main__":
    run(main, add_arguments)
