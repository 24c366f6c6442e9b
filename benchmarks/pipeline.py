"""What the pipeline costs in addition to the training: DVC, memory, a whole rebuild.

    python -m benchmarks.pipeline

- `dvc repro` with nothing to do, alternating with the same in a repository with one
  trivial stage.
- The peak memory of the train stage above that of `import torch`.
- A rebuild of all five stages from an empty cache, alternating with the training loop of
  the textbook, which is timed for one epoch and multiplied by five.

It works in a clone of the committed project.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import side_by_side
from benchmarks.mnist import MIRROR, SPLIT
from benchmarks.side_by_side import ratio, spread
from tools.repository import git

EPOCHS = 5


def main() -> None:
    """Measure and print the three figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="times each command runs")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        clone, trivial = Path(folder) / "clone", Path(folder) / "trivial"
        git.run("clone", "--quiet", ".", str(clone), cwd=Path.cwd())
        make_trivial(trivial)
        run("dvc", "repro", cwd=trivial)

        rebuild, textbook = [], []
        for _ in range(rounds):
            rebuild.append(seconds("dvc", "repro", "--force", "--no-run-cache", cwd=clone))
            epoch = side_by_side.run("benchmarks.train_loop", ("textbook", "default"))
            textbook.append(EPOCHS * epoch["seconds"])
        print(f"rebuild from nothing       {spread(rebuild)} s")
        print(f"textbook, {EPOCHS} epochs alone   {spread(textbook)} s")
        print(f"rebuild / textbook         {ratio(rebuild, textbook):.2f}")

        ours, one_stage = [], []
        for _ in range(2 * rounds):
            ours.append(seconds("dvc", "repro", cwd=clone))
            one_stage.append(seconds("dvc", "repro", cwd=trivial))
        print(f"nothing to do              {spread(ours)} s")
        print(f"nothing to do, one stage   {spread(one_stage)} s")
        print(f"ratio                      {ratio(ours, one_stage):.2f}")

        data = (clone / "data/raw/train_images.npy").stat().st_size
        alone = statistics.median(peak_memory("-c", "import torch", cwd=clone) for _ in range(3))
        train = statistics.median(peak_memory("-m", "stages.train", cwd=clone) for _ in range(3))
        print(f"peak memory of train       {train / 1e6:.0f} MB, {alone / 1e6:.0f} MB of it torch")
        print(f"above torch / the images   {(train - alone) / data:.2f}")


def make_trivial(folder: Path) -> None:
    """Create a repository with one trivial stage."""
    folder.mkdir()
    (folder / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo 1 > out\n    deps: [in]\n    outs: [out]\n"
    )
    (folder / "in").write_text("1")
    git.run("init", "--quiet", cwd=folder)
    run("dvc", "init", "--quiet", cwd=folder)


def run(*command: str, cwd: Path) -> None:
    """Run a command of this environment, quietly."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True)


def seconds(*command: str, cwd: Path) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    run(*command, cwd=cwd)
    return time.perf_counter() - start


def peak_memory(*arguments: str, cwd: Path) -> int:
    """Return the largest resident size, in bytes, of one Python process."""
    return cost(*arguments, cwd=cwd).memory


class Cost(NamedTuple):
    """The cost of a process."""

    seconds: float
    memory: int  # the largest resident size, in bytes


def cost(*arguments: str, cwd: Path) -> Cost:
    """Run a Python process and return its cost."""
    program = (
        "import resource, subprocess, sys, time; "
        "start = time.perf_counter(); "
        "subprocess.run([sys.executable, *sys.argv[1:]], check=True, capture_output=True); "
        "seconds = time.perf_counter() - start; "
        "print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    seconds, memory = done.stdout.split()
    return Cost(float(seconds), int(memory) * 1024)  # Linux counts in KiB


if __name__ == "__main__":
    if not (MIRROR.exists() and SPLIT.exists()):
        sys.exit("run `make repro` first: the textbook loop trains on the same split")
    main()
