"""Runs those of several experiments that have not run yet, and stores their results.

`tools.compare` and `tools.recipe` share it: an interrupted call continues where it
stopped, and the experiments run the working tree as it is at the start, committed or
not.
"""

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from core.pipeline import wording
from core.pipeline.errors import PipelineError, SetupError
from tools.experiments import store
from tools.experiments.executor_interface import WORK, Executor
from tools.experiments.grid import Experiment
from tools.experiments.store import Divergence, Outcome, Result, Snapshot


class Ran(NamedTuple):
    """The results of experiments, in the order of the plan."""

    results: list[Result]
    divergences: list[Divergence]
    problems: dict[str, str]  # why the others failed, by name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs experiments."""
    parser.add_argument("--seeds", type=_count, metavar="N", help="train.seed from 1 to N")
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="how many at a time; as many as processors allow"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace experiments of these names from other code"
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="run them on a Ray cluster: HOST:PORT on a node of it, ray://HOST:PORT from "
        "elsewhere, or local for one on this machine",
    )


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, found {text}")
    return number


def run_missing(
    root: Path,
    snapshot: Snapshot,
    planned: Sequence[Experiment],
    executor: Executor,
    force: bool,
) -> Ran:
    """Run what has not been run yet, and print a line as each ends.

    Args:
        root: of the repository.
        snapshot: what they start from.
        planned: all experiments of the call.
        executor: runs them.
        force: replace experiments of the same names that ran other code.

    Raises:
        SetupError: there are such experiments, and `force` is off.
    """
    found = {each.name: store.finished(root, snapshot, each) for each in planned}
    to_run = [each for each in planned if found[each.name] is None]
    if not force:
        check_names_are_free(root, snapshot, to_run)

    count = wording.count(len(planned), "experiment")
    plan = f"{count}, {len(planned) - len(to_run)} of them ran before"
    print(f"{plan}; {len(to_run)} to run, {executor.how(to_run)}" if to_run else plan, flush=True)
    problems = {}
    try:
        with closing(run_all(executor, to_run, snapshot)) as outcomes:
            for outcome in outcomes:
                found[outcome.experiment.name] = store.record(root, snapshot, outcome)
                if outcome.problem and not outcome.diverged:
                    problems[outcome.experiment.name] = outcome.problem
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        raise
    return Ran(
        [each for each in found.values() if isinstance(each, Result)],
        [each for each in found.values() if isinstance(each, Divergence)],
        problems,
    )


def check_names_are_free(root: Path, snapshot: Snapshot, to_run: list[Experiment]) -> None:
    """Refuse to replace experiments of the same names that ran other code.

    Raises:
        SetupError: there are such experiments.
    """
    taken = {each.name: store.in_the_way(root, snapshot, each) for each in to_run}
    taken = {name: files for name, files in taken.items() if files}
    if taken:
        raise SetupError(
            f"{wording.count(len(taken), 'experiment')} of this commit "
            f"{'has this name' if len(taken) == 1 else 'have these names'} and ran something else",
            found="\n".join(f"{name}: {', '.join(files)}" for name, files in taken.items()),
            todo="commit your changes (each commit has its own experiments), "
            "or replace them with --force",
        )


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


def check_all_ran(ran: Ran, planned: Sequence[Experiment]) -> None:
    """Report why experiments failed, each reason once.

    Raises:
        PipelineError: some failed. A diverged training is a result, not a failure.
    """
    names: dict[str, list[str]] = {}
    for name, problem in ran.problems.items():
        names.setdefault(problem, []).append(name)
    if names:
        raise PipelineError(
            f"{len(ran.problems)} of {wording.count(len(planned), 'experiment')} failed; "
            "the others are kept",
            found="\n".join(f"{', '.join(same)}: {problem}" for problem, same in names.items()),
            where=f"{WORK}/NAME.log has the output of each",
            todo="the same command runs only what is missing",
        )
