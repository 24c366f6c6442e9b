"""Runs a recipe of recipes/ as an experiment and prints its accuracy.

    python -m tools.recipe                          lists the recipes
    python -m tools.recipe cnn-mnist --seeds 5
    python -m tools.recipe cnn-mnist train.epochs=20

A recipe is a few parameters that override those of params.yaml. Each seed becomes an
ordinary DVC experiment named after the recipe; one that ran before is not run again.
The working tree does not change: `make apply` applies a result.
"""

import argparse
import shlex
import signal
import statistics
from collections.abc import Sequence
from pathlib import Path

from core.pipeline import wording
from core.pipeline.errors import ParamsError, PipelineError
from core.pipeline.params import PARAMS_FILE
from core.pipeline.runner import run
from tools.experiments import choose_executor, grid, ranking, recipe_files, run_experiments, store
from tools.experiments.store import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a file in recipes/")
    parser.add_argument(
        "settings", nargs="*", metavar="PARAMETER=VALUE", help="override the recipe"
    )
    run_experiments.add_arguments(parser)


def main(
    name: str | None,
    settings: list[str],
    seeds: int | None,
    jobs: int | None,
    force: bool,
    ray: str | None,
) -> None:
    """Run what has not been run yet, and print the recipe's accuracy."""
    if name is None:
        print(listing())
        return
    root = Path.cwd()
    snapshot = store.take_snapshot(root)
    planned = grid.plan(settings, seeds, PARAMS_FILE, [name])
    if len({each.recipe for each in planned}) > 1:
        raise ParamsError(
            "a recipe runs with one value for each parameter",
            found=" ".join(settings),
            todo="choose one by validation: "
            + shlex.join(["python", "-m", "tools.compare", "--recipes", name, *settings]),
        )
    print(end=recipe_files.note_on_edits([name], PARAMS_FILE, settings, seeds))
    ran = run_experiments.run_missing(
        root, snapshot, planned, choose_executor.chosen(root, jobs, ray), force
    )
    if ran.results:
        tested = [store.test_accuracy(root, snapshot, each.experiment) for each in ran.results]
        print()
        print(table(ran.results, tested))
        print()
        print(f"next  make apply NAME={ran.results[0].experiment.name}")
        print("      brings its parameters, model and metrics into this folder;")
        print("      make experiments lists all")
    run_experiments.check_all_ran(ran, planned)
    if ran.divergences:
        raise PipelineError(
            f"{len(ran.divergences)} of {wording.count(len(planned), 'training')} diverged",
            found="\n".join(f"{each.experiment.name}: {each.message}" for each in ran.divergences),
        )


def listing() -> str:
    """List the recipes, each with its description."""
    names = recipe_files.names()
    width = max(map(len, names), default=0)
    lines = [f"{name:<{width}}  {recipe_files.description(name)}".rstrip() for name in names]
    return "\n".join([*lines, "", "next  python -m tools.recipe NAME --seeds 5"])


def table(results: Sequence[Result], test_accuracies: Sequence[float]) -> str:
    """Write the accuracy of a recipe as a table.

    Args:
        results: of its experiments, at least one.
        test_accuracies: of the same experiments.
    """
    seconds = [each.seconds for each in results if each.seconds is not None]
    columns = {
        "recipe": results[0].experiment.recipe,
        "n": str(len(results)),
        "val accuracy": ranking.with_deviation([each.accuracy for each in results]),
        "test accuracy": ranking.with_deviation(list(test_accuracies)),
        "seconds": f"{statistics.fmean(seconds):.1f}" if seconds else "–",
    }
    widths = [max(len(title), len(cell)) for title, cell in columns.items()]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (columns.keys(), columns.values())
    ]
    seeds = ", ".join(str(each.experiment.seed) for each in results)
    if len(results) == 1:
        lines.append(f"One run, of train.seed {seeds}. --seeds 5 says how much a training varies.")
    else:
        lines.append(f"Mean ± standard deviation over train.seed {seeds}.")
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
