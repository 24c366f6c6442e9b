"""What stored experiments cost: 10, 100 and 1,000 of them in one repository.

    python -m benchmarks.many_experiments

Nothing is trained. The experiments are synthetic: `tools.experiments.store.record` stores
them like those of `python -m tools.compare`, with parameters, a matching dvc.lock, and
metrics and outputs as large as those of the committed run, each with its own content.
One repository grows, in a temporary folder. Seconds are from one run each, mostly on one
processor.

It works in a clone of the committed project.
"""

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.growth import Growth
from benchmarks.pipeline import peak_memory, run, seconds
from core.pipeline import strict_yaml
from core.pipeline.params import PARAMS_FILE
from tools.compare import rendering
from tools.experiments import grid, ranking, store
from tools.experiments.grid import Experiment
from tools.experiments.store import Divergence, Outcome, Result
from tools.repository import git

SIZES = (10, 100, 1000)
SEEDS = 5  # of each recipe
FLIPPED = 0.02  # share of the predictions in which an experiment differs from the committed run
NOISE = 0.02  # standard deviation by which its probabilities do
TEST_PREDICTIONS = "metrics/test_predictions.csv"


def main() -> None:
    """Grow a repository, and print the costs at each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="experiments, growing")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each recipe")
    arguments = parser.parse_args()
    sizes = list(arguments.sizes)
    if sizes != sorted(set(sizes)) or any(size % arguments.seeds for size in sizes):
        parser.error("--sizes have to grow, and each to be a multiple of --seeds")
    with tempfile.TemporaryDirectory() as folder:
        team = Team(Path(folder), arguments.seeds)
        for size in sizes:
            team.grow(size)
    team.growth.print("experiments", more=1)


class Team:
    """A clone that stores experiments, and the repository and the remote that a team shares.

    Args:
        folder: that contains all of it.
        seeds: of each recipe.
    """

    def __init__(self, folder: Path, seeds: int) -> None:
        self.folder = folder
        self.seeds = seeds
        self.clone = folder / "clone"
        self.shared = f"file://{folder}/team.git"  # git uses its network protocol
        self.growth = Growth()
        git.run("clone", "--quiet", ".", str(self.clone), cwd=Path.cwd())
        run("dvc", "repro", cwd=self.clone)
        git.run("checkout", "--quiet", ".", cwd=self.clone)
        git.run("clone", "--quiet", "--bare", "clone", "team.git", cwd=folder)
        git.run("remote", "set-url", "origin", self.shared, cwd=self.clone)
        remote = ("--local", "--default", "team", f"{folder}/remote")
        run("dvc", "remote", "add", *remote, cwd=self.clone)
        run("dvc", "push", cwd=self.clone)
        self.snapshot = store.take_snapshot(self.clone)
        self.committed = Committed(self.clone)
        self.names: set[str] = set()  # of the stored experiments

    def grow(self, size: int) -> None:
        """Store experiments until there are `size`, and measure everything."""
        self.growth.at(size)
        rates = ",".join(f"{number / 1000}" for number in range(1, size // self.seeds + 1))
        planned = self.plan(rates)
        self.keep([each for each in planned if each.name not in self.names])
        self.compare(rates)
        self.show()
        self.share(size)
        self.join()
        self.tidy_up()

    def plan(self, rates: str) -> list[Experiment]:
        """Plan experiments with these learning rates as `python -m tools.compare` does."""
        return grid.plan([f"train.lr={rates}"], self.seeds, self.clone / PARAMS_FILE)

    def keep(self, new: Sequence[Experiment]) -> None:
        """Store synthetic outcomes of experiments."""
        before, taken = size_of(self.clone / ".git"), 0.0
        for experiment in new:
            outcome = self.committed.synthetic(experiment)
            start = time.perf_counter()
            store.record(self.clone, self.snapshot, outcome)
            taken += time.perf_counter() - start
            self.names.add(experiment.name)
        self.growth.note("keep one in git, s", taken / len(new))
        grown = size_of(self.clone / ".git") - before
        self.growth.note("one in git, uncompacted, MB", grown / len(new) / 1e6)

    def compare(self, rates: str) -> None:
        """Compare all, part by part and by the command."""
        planned = self.growth.timed("compare: plan, s", lambda: self.plan(rates))
        found = self.growth.timed(
            "compare: find and read, s",
            lambda: [store.finished(self.clone, self.snapshot, each) for each in planned],
        )
        results = [each for each in found if isinstance(each, Result | Divergence)]
        assert len(results) == len(planned), "an experiment was not found again"
        comparison = self.growth.timed(
            "compare: rank, s", lambda: ranking.compare(planned, results)
        )
        self.growth.timed("compare: page, s", lambda: rendering.page(comparison, ""))
        self.growth.timed("compare: picture, s", lambda: rendering.picture(comparison))
        words = ("-m", "tools.compare", f"train.lr={rates}", "--seeds", str(self.seeds))
        command = "python -m tools.compare, nothing to run"
        memory = self.growth.timed(f"{command}, s", lambda: peak_memory(*words, cwd=self.clone))
        self.growth.note(f"{command}, MB of memory", memory / 1e6)
        page = (self.clone / "reports/compare.html").stat().st_size
        self.growth.note("its page, MB", page / 1e6)

    def show(self) -> None:
        """List all with DVC."""
        for line in ("dvc exp show, s", "dvc exp show, again, s"):
            self.growth.note(line, seconds("dvc", "exp", "show", "--csv", cwd=self.clone))

    def share(self, size: int) -> None:
        """Push all new ones, and then one more."""
        push = ("dvc", "exp", "push", "origin")
        self.growth.note("dvc exp push --no-cache, s", seconds(*push, "--no-cache", cwd=self.clone))
        self.growth.note("dvc exp push, the cache, s", seconds(*push, cwd=self.clone))
        more, *_ = self.plan(f"{1 + size / 1e6}")
        store.record(self.clone, self.snapshot, self.committed.synthetic(more))
        self.growth.note("dvc exp push, one more, s", seconds(*push, more.name, cwd=self.clone))
        run("dvc", "exp", "remove", more.name, cwd=self.clone)
        ref = f":{store.FINISHED}/{self.snapshot.baseline[:2]}/{self.snapshot.baseline[2:]}"
        git.run("push", "--quiet", "origin", f"{ref}/{more.name}", cwd=self.clone)

    def join(self) -> None:
        """Clone the shared repository, and fetch all experiments."""
        listed = git.run("ls-remote", self.shared)
        self.growth.note("refs in the shared repository", len(listed.splitlines()))
        self.growth.note("git ls-remote, kB", len(listed) / 1e3)
        other = self.folder / "other"
        clone = ("git", "clone", "--quiet", self.shared, str(other))
        self.growth.note("git clone, s", seconds(*clone, cwd=self.folder))
        self.growth.note(
            "dvc exp list origin, s", seconds("dvc", "exp", "list", "origin", cwd=other)
        )
        refs = f"{store.FINISHED}/*:{store.FINISHED}/*"
        fetch = ("git", "fetch", "--quiet", "origin", refs)
        self.growth.note("git fetch of all experiments, s", seconds(*fetch, cwd=other))
        shutil.rmtree(other)

    def tidy_up(self) -> None:
        """Compact the repository, and measure its size."""
        for line in (".git, MB", ".git after git gc, MB"):
            self.growth.note(line, size_of(self.clone / ".git") / 1e6)
            if line == ".git, MB":
                self.growth.note("git gc, s", seconds("git", "gc", "--quiet", cwd=self.clone))
        self.growth.note("DVC's cache, MB", size_of(self.clone / ".dvc/cache") / 1e6)


class Committed:
    """The committed run, which synthetic outcomes vary.

    Args:
        clone: its repository; the outputs of synthetic experiments go to its cache.
    """

    def __init__(self, clone: Path) -> None:
        self.clone = clone
        self.lock = (clone / store.LOCK).read_text(encoding="utf-8")
        stages = strict_yaml.load(clone / store.LOCK).values["stages"]
        trained = ("train", "evaluate", "test_report")
        outs = [out for stage in trained for out in stages[stage]["outs"]]
        self.sums: dict[str, str] = {out["path"]: out["md5"] for out in outs}
        self.contents = {path: (clone / path).read_bytes() for path in self.sums}
        self.predictions = {
            path: pd.read_csv(clone / path) for path in (store.PREDICTIONS, TEST_PREDICTIONS)
        }

    def synthetic(self, experiment: Experiment) -> Outcome:
        """Return the outcome of an experiment that differs in a few predictions."""
        generator = np.random.default_rng(list(experiment.name.encode()))
        contents = {
            path: content + f"\n{experiment.name}\n".encode() if _cached(path) else content
            for path, content in self.contents.items()
        }
        predicted = {path: varied(table, generator) for path, table in self.predictions.items()}
        for path, table in predicted.items():
            contents[path] = table.to_csv(index=False, lineterminator="\n").encode()
        accuracy = right(predicted[store.PREDICTIONS])
        measured = {"loss": round(-math.log(accuracy), 6), "accuracy": round(accuracy, 6)}
        contents[store.EVALUATION] = json.dumps({"train": measured, "val": measured}).encode()

        lock = self.lock
        for path, content in contents.items():
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            lock = re.sub(
                f"{self.sums[path]}\n(\\s+size:) \\d+", f"{md5}\n\\1 {len(content)}", lock
            )
            if _cached(path):
                cached = self.clone / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
                cached.parent.mkdir(parents=True, exist_ok=True)
                cached.write_bytes(content)
        lr = experiment.settings["train.lr"]
        lock = re.sub(r"(\n        train:\n          seed:) \d+", f"\\1 {experiment.seed}", lock)
        lock = re.sub(r"(\n          lr:) \S+", f"\\1 {lr}", lock)
        in_git = {path: content for path, content in contents.items() if not _cached(path)}
        return Outcome(experiment, 1.0, {**in_git, store.LOCK: lock.encode()}, trained=True)


def varied(predictions: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Change a few predictions, and all probabilities a little."""
    count = len(predictions)
    flipped = generator.random(count) < FLIPPED
    others = generator.integers(0, 10, count)
    noisy = predictions["probability"] + generator.normal(0, NOISE, count)
    return predictions.assign(
        prediction=np.where(flipped, others, predictions["prediction"]),
        probability=noisy.clip(0.1, 1).round(4),
    )


def right(predictions: pd.DataFrame) -> float:
    """Return the share of images that are predicted right."""
    return float((predictions["prediction"] == predictions["label"]).mean())


def _cached(path: str) -> bool:
    """Say whether DVC stores this output, and not git."""
    return not path.startswith("metrics/")


def size_of(folder: Path) -> int:
    """Return the total size in bytes of all files in a folder, not in blocks."""
    return sum(
        os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118
        for where, _, names in os.walk(folder)
        for name in names
    )


if __name__ == "__main__":
    main()
