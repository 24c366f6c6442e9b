"""Runs the pipeline with several values of its knobs and compares what comes out.

    python -m tools.compare train.lr=0.001,0.01,0.1 --seeds 3

Every combination becomes an ordinary experiment of DVC, named by what varies.
One that ran before, from the same code and parameters, is not run again: a call
that was interrupted goes on where it stopped. What stands in the working tree
when the call begins is what runs, committed or not.

Writes: reports/compare.html, the charts and the table, on one page that needs
        no network; reports/compare.md and compare.png, the same for elsewhere
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from core import files, params
from core.errors import PipelineError, SetupError
from core.params import PARAMS_FILE
from core.runner import run
from tools import compare_page, experiments, grid
from tools.executors import WORK, Executor, LocalExecutor
from tools.experiments import Outcome, Result, Snapshot
from tools.grid import Experiment
from tools.ranking import Comparison, compare

PAGE = Path("reports/compare.html")
TABLE = Path("reports/compare.md")
PICTURE = Path("reports/compare.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "settings", nargs="*", metavar="KNOB=VALUE,VALUE,...", help="as of dvc exp run -S"
    )
    parser.add_argument(
        "--seeds", type=_count, metavar="N", help="train.seed from 1 to N, everything else the same"
    )
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="how many at a time; as many as processors allow"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace experiments of these names from other code"
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected an integer >= 1")
    return number


def main(settings: list[str], seeds: int | None, jobs: int | None, force: bool) -> None:
    """Run what has not been run yet, and compare."""
    if not settings and not seeds:
        raise SetupError(
            "there is nothing to compare", todo="name a knob (train.lr=0.01,0.1), or --seeds 3"
        )
    root = Path.cwd()
    snapshot = experiments.take_snapshot(root)
    planned = grid.plan(settings, seeds, PARAMS_FILE)
    found = {each.name: experiments.finished(root, snapshot, each) for each in planned}
    to_run = [each for each in planned if found[each.name] is None]
    if not force:
        check_names_are_free(root, snapshot, to_run)

    jobs = min(jobs or jobs_that_fit(), max(1, len(to_run)))
    plan = f"{len(planned)} experiments, {len(planned) - len(to_run)} of them ran before"
    print(f"{plan}; {len(to_run)} to run, {jobs} at a time" if to_run else plan, flush=True)
    problems = {}
    try:
        with closing(run_all(LocalExecutor(root, jobs), to_run, snapshot)) as outcomes:
            for outcome in outcomes:
                found[outcome.experiment.name] = experiments.record(root, snapshot, outcome)
                if outcome.problem and not outcome.diverged:
                    problems[outcome.experiment.name] = outcome.problem
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise

    known = [each for each in found.values() if each is not None]
    if any(isinstance(each, Result) for each in known):
        report(compare(planned, known), call(settings, seeds))
    if problems:
        raise PipelineError(
            f"{len(problems)} of {len(planned)} experiments failed; the others are kept",
            found="\n".join(f"{name}: {problem}" for name, problem in problems.items()),
            where=f"{WORK}/NAME.log holds what each of them printed",
            todo="the same command runs only what is missing",
        )


def check_names_are_free(root: Path, snapshot: Snapshot, to_run: list[Experiment]) -> None:
    """Refuse to replace experiments that other code has left under the same names.

    Raises:
        SetupError: there are such.
    """
    taken = {each.name: experiments.in_the_way(root, snapshot, each) for each in to_run}
    taken = {name: files for name, files in taken.items() if files}
    if taken:
        raise SetupError(
            f"{len(taken)} experiments of this commit have these names and ran something else",
            found="\n".join(f"{name}: {', '.join(files)}" for name, files in taken.items()),
            todo="commit your changes (each commit has experiments of its own), "
            "or replace them with --force",
        )


def jobs_that_fit() -> int:
    """Return how many experiments have processors of their own."""
    chosen = params.read("numerics", "train")
    processors = len(os.sched_getaffinity(0))
    if chosen.train.device != "cpu":
        return 1
    if chosen.numerics == "portable":
        return processors
    return max(1, processors // (chosen.train.threads or processors))


def run_all(
    executor: Executor, to_run: list[Experiment], snapshot: Snapshot
) -> Generator[Outcome, None, None]:
    """Run experiments and print a line as each ends."""
    width = len(str(len(to_run)))
    bar = tqdm(total=len(to_run), unit="run", leave=False, disable=None)
    with bar, closing(executor.run(to_run, snapshot)) as outcomes:
        for ended, outcome in enumerate(outcomes, start=1):
            yield outcome
            state = "diverged" if outcome.diverged else "failed" if outcome.problem else "done"
            bar.write(
                f"{ended:>{width}}/{len(to_run)}  {state:<8}  {outcome.seconds:5.1f} s  "
                f"{outcome.experiment.name}"
            )
            sys.stdout.flush()
            bar.update()


def call(settings: list[str], seeds: int | None) -> str:
    """Write the command that makes this comparison."""
    words = [
        "python",
        "-m",
        "tools.compare",
        *settings,
        *(["--seeds", str(seeds)] if seeds else []),
    ]
    return shlex.join(words)


def report(comparison: Comparison, command: str) -> None:
    """Write the page, the table and the picture, and print the table."""
    files.write_text(PAGE, compare_page.page(comparison, command))
    files.write_text(TABLE, compare_page.markdown(comparison, command))
    files.write_bytes(PICTURE, compare_page.picture(comparison))
    print()
    print(compare_page.text(comparison))
    print()
    print(f"report  {PAGE}, {TABLE}, {PICTURE}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    run(main, add_arguments)
