"""Runs the pipeline with several values of its parameters and compares the results.

    python -m tools.compare train.lr=0.001,0.01,0.1 --seeds 3
    python -m tools.compare --recipes mlp-mnist,cnn-mnist --seeds 5

Every combination becomes an ordinary DVC experiment, named after the parameters that
vary. One that ran before, from the same code and parameters, is not run again: an
interrupted comparison continues where it stopped. The experiments run the working
tree as it is at the start, committed or not.

Writes: reports/compare.html, charts and table on one page that needs no network;
        reports/compare.md and compare.png, the same for other places
"""

import argparse
import shlex
import signal
from pathlib import Path

from core.pipeline import files
from core.pipeline.errors import SetupError
from core.pipeline.params import PARAMS_FILE
from core.pipeline.runner import run
from tools.compare import rendering
from tools.experiments import choose_executor, grid, recipe_files, run_experiments, store
from tools.experiments.ranking import Comparison, compare

PAGE = Path("reports/compare.html")
TABLE = Path("reports/compare.md")
PICTURE = Path("reports/compare.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "settings", nargs="*", metavar="PARAMETER=VALUE,VALUE,...", help="as of dvc exp run -S"
    )
    parser.add_argument(
        "--recipes", metavar="NAME,NAME,...", help="compare these files of recipes/"
    )
    run_experiments.add_arguments(parser)


def main(
    settings: list[str],
    recipes: str | None,
    seeds: int | None,
    jobs: int | None,
    force: bool,
    ray: str | None,
) -> None:
    """Run what has not been run yet, and compare."""
    if not settings and not seeds and not recipes:
        raise SetupError(
            "there is nothing to compare",
            todo="name a parameter (train.lr=0.01,0.1), --recipes, or --seeds 3",
        )
    root = Path.cwd()
    snapshot = store.take_snapshot(root)
    names = recipes.split(",") if recipes else []
    planned = grid.plan(settings, seeds, PARAMS_FILE, names)
    print(end=recipe_files.note_on_edits(names, PARAMS_FILE, settings, seeds))
    ran = run_experiments.run_missing(
        root, snapshot, planned, choose_executor.chosen(root, jobs, ray), force
    )
    if ran.results:
        comparison = compare(planned, [*ran.results, *ran.divergences])
        report(comparison, call(settings, recipes, seeds))
    run_experiments.check_all_ran(ran, planned)


def call(settings: list[str], recipes: str | None, seeds: int | None) -> str:
    """Return the command of this comparison."""
    words = [
        "python",
        "-m",
        "tools.compare",
        *settings,
        *(["--recipes", recipes] if recipes else []),
        *(["--seeds", str(seeds)] if seeds else []),
    ]
    return shlex.join(words)


def report(comparison: Comparison, command: str) -> None:
    """Write the page, the table and the picture, and print the table."""
    files.write_text(PAGE, rendering.page(comparison, command))
    files.write_text(TABLE, rendering.markdown(comparison, command))
    files.write_bytes(PICTURE, rendering.picture(comparison))
    print()
    print(rendering.text(comparison))
    print()
    print(f"report  {PAGE}, {TABLE}, {PICTURE}")
    print("next    make experiments lists them")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
