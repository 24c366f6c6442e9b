"""Several seeds of one recipe: read from saved experiments, or trained here.

A recipe is everything that determines a model except the seed of its training. Two
models show a difference between their recipes only if other seeds of the same recipe do
not differ as much.
"""

import io
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ruamel.yaml import YAML
from scipy import stats

from core.pipeline import files
from core.pipeline.errors import DataError, SetupError
from core.statistics import paired_tests
from core.statistics.paired_tests import LEVEL, Difference
from tools.repository import freshness, git
from tools.repository.snapshots import Snapshot, revision
from tools.review.results import EVALUATION, TEST_PREDICTIONS, Predictions, read_predictions

SEED = "train.seed"
LEAST_DEGREES = 2  # of freedom: three runs of one recipe, or two of each
VAL_STAGE = "evaluate"  # writes the validation accuracy


class Spread(NamedTuple):
    """How much the validation accuracy of one recipe varies with the seed."""

    runs: int  # of both recipes
    deviation: float  # standard deviation between seeds, pooled over the recipes
    limit: float  # of the difference of two seeds, in 95 of 100 cases


class Trained(NamedTuple):
    """The same seeds of two recipes."""

    seeds: list[int]
    before: list[float]  # the test accuracy of each seed
    after: list[float]
    difference: Difference


def saved_spread(before: Snapshot, after: Snapshot) -> Spread | None:
    """Read the spread from saved experiments that have the recipe of base or head.

    Returns:
        None if they are too few to estimate a spread.
    """
    recipes: dict[str, dict[int, float]] = {}
    for snapshot in (before, after, *map(revision, _experiments())):
        named = recipe(snapshot)
        accuracy = dict(freshness.leaves(snapshot.json(EVALUATION) or {})).get("val.accuracy")
        if named and accuracy is not None:
            text, seed = named
            if snapshot is before or snapshot is after:
                recipes.setdefault(text, {})
            if text in recipes:
                recipes[text].setdefault(seed, accuracy)
    groups = [list(seeds.values()) for seeds in recipes.values() if len(seeds) > 1]
    degrees = sum(len(group) - 1 for group in groups)
    if degrees < LEAST_DEGREES:
        return None
    squares = sum(float(np.square(np.array(group) - np.mean(group)).sum()) for group in groups)
    deviation = math.sqrt(squares / degrees)
    limit = float(stats.t.ppf(1 - LEVEL / 2, degrees)) * math.sqrt(2) * deviation
    return Spread(sum(map(len, groups)), deviation, limit)


def recipe(snapshot: Snapshot) -> tuple[str, int] | None:
    """Return the recipe of a model, as a text to compare, and its seed.

    It is read from dvc.lock, which the metrics belong to: the commands, the hashes of
    the code and the parameters of every stage up to the evaluation.

    Returns:
        None if dvc.lock does not have them.
    """
    locks = freshness.locked(snapshot)
    makers = {out["path"]: name for name, lock in locks.items() for out in lock.get("outs", [])}
    facts: dict[str, Any] = {}
    seed = None
    waiting = [VAL_STAGE] if VAL_STAGE in locks else []
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        lock = locks[name]
        facts[f"{name} cmd"] = lock.get("cmd")
        for dep in lock.get("deps", []):
            maker = makers.get(dep["path"])
            if maker is None:
                facts[f"{name} {dep['path']}"] = dep.get("md5")
            elif maker not in seen:
                seen.add(maker)
                waiting.append(maker)
        for values in lock.get("params", {}).values():
            for key, value in values.items():
                facts |= {f"{name} {leaf}": item for leaf, item in freshness.leaves(value, key)}
    for key in [key for key in facts if key.endswith(f" {SEED}")]:
        seed = facts.pop(key)
    return (repr(sorted(facts.items())), seed) if isinstance(seed, int) else None


def one(before: Snapshot, after: Snapshot) -> bool:
    """Say whether base and head differ only in the seed."""
    old, new = recipe(before), recipe(after)
    return old is not None and new is not None and old[0] == new[0] and old[1] != new[1]


def train(before: Snapshot, after: Snapshot, count: int) -> Trained:
    """Train the seeds 1 to `count` of both recipes and compare their test predictions.

    `dvc repro` rebuilds base and head in temporary folders outside of the repository,
    whose files, cache and history stay as they are.

    Args:
        before: the first recipe.
        after: the second.
        count: how many seeds, at least 2.

    Raises:
        SetupError: base or head has no `train.seed`, or failed to train.
        DataError: base and head were tested on different images.
    """
    seeds = list(range(1, count + 1))
    runs = [list(_runs(snapshot, seeds)) for snapshot in (before, after)]
    labels = [run.labels for recipe_runs in runs for run in recipe_runs]
    if any(not np.array_equal(labels[0], other) for other in labels):
        raise DataError(
            "base and head are tested on different images",
            expected=f"the same labels in each {TEST_PREDICTIONS}",
            todo="leave --seeds out: the review says what differs",
        )
    old, new = (np.array([run.right for run in recipe_runs]) for recipe_runs in runs)  # (K, N) each
    return Trained(
        seeds=seeds,
        before=old.mean(axis=1).tolist(),
        after=new.mean(axis=1).tolist(),
        difference=paired_tests.over_seeds(new.astype(np.int8) - old.astype(np.int8)),
    )


def _runs(snapshot: Snapshot, seeds: list[int]) -> Iterator[Predictions]:
    with tempfile.TemporaryDirectory(prefix="seeds-") as name:
        folder = Path(name)
        for path in snapshot.files():
            files.write_bytes(folder / path, snapshot.read(path) or b"")
        git.run("init", "--quiet", cwd=folder)  # DVC needs a repository
        for seed in seeds:
            _set_seed(folder / freshness.PARAMS, seed, snapshot)
            _rebuild(folder, seed, snapshot)
            built = Snapshot(f"{snapshot.name} with seed {seed}", None, folder=folder)
            predictions = read_predictions(built, TEST_PREDICTIONS)
            print(
                f"{snapshot.name}, seed {seed}: test accuracy {predictions.right.mean():.4f}",
                flush=True,
            )
            yield predictions


def _set_seed(path: Path, seed: int, snapshot: Snapshot) -> None:
    yaml = YAML()  # keeps comments and the form of all other values
    content = yaml.load(path.read_text(encoding="utf-8")) if path.exists() else None
    section, parameter = SEED.split(".")
    if not isinstance(content, dict) or parameter not in (content.get(section) or {}):
        raise SetupError(
            f"{snapshot.name} has no {SEED}", where="params.yaml", todo="leave --seeds out"
        )
    content[section][parameter] = seed
    text = io.StringIO()
    yaml.dump(content, text)
    files.write_text(path, text.getvalue())


def _rebuild(folder: Path, seed: int, snapshot: Snapshot) -> None:
    python = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=folder,
        env=git.undirected(os.environ) | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(
            f"{snapshot.name} cannot be rebuilt with seed {seed}",
            found="\n".join(done.stderr.strip().splitlines()[-8:]),
            todo="dvc repro in that revision shows all of the output",
        )


def _experiments() -> list[str]:
    """Return the commits of saved experiments: refs/exps/<base commit>/<name>."""
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").decode()
    pairs = [line.split(" ", 1) for line in listed.splitlines()]
    # refs/exps/ab/cdef.../name has five parts; DVC's stashes and other refs have fewer.
    return [commit for commit, name in pairs if len(name.split("/")) == 5]
