"""What a comparison costs in addition to the stages that it runs.

    python -m benchmarks.experiments

It alternates `python -m tools.compare` with eight learning rates, two at a time, and the
bare stages (train, evaluate and test_report as three commands, without DVC), whose time
is multiplied by eight and divided by two. The ratio includes everything: DVC, git, the
checkouts, the start of the tool, and its page. With --ray, the comparison also runs with
`--ray local`, including the start of Ray.

It works in a clone of the committed project.
"""

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks.pipeline import run, seconds
from benchmarks.side_by_side import ratio, spread
from tools.repository import git

RATES = ("0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1", "0.5")
JOBS = 2
STAGES = ("train", "evaluate", "test_report")


def main() -> None:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each is measured")
    parser.add_argument("--ray", action="store_true", help="also with Ray on this machine")
    arguments = parser.parse_args()
    compared, by_ray, bare = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        git.run("clone", "--quiet", ".", str(clone), cwd=Path.cwd())
        run("dvc", "repro", cwd=clone)
        git.run("checkout", "--quiet", ".", cwd=clone)
        for number in range(arguments.rounds):
            # Another seed each time, so that nothing comes from the run cache.
            compared.append(seconds(*command(2 * number), cwd=clone))
            if arguments.ray:
                by_ray.append(seconds(*command(2 * number + 1), "--ray", "local", cwd=clone))
            one = sum(seconds("python", "-m", f"stages.{stage}", cwd=clone) for stage in STAGES)
            bare.append(len(RATES) * one / JOBS)
            git.run("checkout", "--quiet", ".", cwd=clone)
    print(f"processors                    {len(os.sched_getaffinity(0))}")
    print(f"{len(RATES)} experiments, {JOBS} at a time    {spread(compared, 1)} s")
    print(f"{len(RATES)} x the bare stages / {JOBS}      {spread(bare, 1)} s")
    print(f"ratio                         {ratio(compared, bare):.2f}")
    if arguments.ray:
        print(f"the experiments by Ray        {spread(by_ray, 1)} s")
        print(f"ratio to those without        {ratio(by_ray, compared):.2f}")


def command(seed: int) -> tuple[str, ...]:
    """Return the comparison of all rates with one seed."""
    settings = (f"train.lr={','.join(RATES)}", f"train.seed={seed}")
    return ("python", "-m", "tools.compare", *settings, "--jobs", str(JOBS))


if __name__ == "__main__":
    main()
